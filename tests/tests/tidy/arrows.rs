//! Who may depend on whom. The arrows are what keeps a job manager from running user code, even by accident; they are
//! read from `cargo metadata`, so a feature or a renamed dependency cannot hide one.

use cargo_metadata::{DependencyKind, MetadataCommand};
use millstream_tests::data::workspace_root;

use super::{Finding, settle};

/// For each package of the workspace, the packages it may build against.
const ALLOWED: [(&str, &[&str]); 13] = [
    ("millstream-model", &[]),
    ("millstream-proto", &["millstream-model", "millstream-state"]),
    ("millstream-state", &["millstream-model"]),
    ("millstream-ha", &["millstream-model"]),
    ("millstream-runtime", &["millstream-model", "millstream-state"]),
    ("millstream-connectors", &["millstream-model", "millstream-runtime"]),
    (
        "millstream-jobmanager",
        &["millstream-model", "millstream-proto", "millstream-ha", "millstream-state"],
    ),
    (
        "millstream-taskmanager",
        &[
            "millstream-model",
            "millstream-proto",
            "millstream-ha",
            "millstream-state",
            "millstream-runtime",
        ],
    ),
    (
        "millstream",
        &[
            "millstream-model",
            "millstream-proto",
            "millstream-ha",
            "millstream-runtime",
            "millstream-state",
            "millstream-connectors",
            "millstream-taskmanager",
            "millstream-jobmanager",
        ],
    ),
    (
        "millstream-cli",
        &["millstream", "millstream-proto", "millstream-jobmanager", "millstream-taskmanager"],
    ),
    ("millstream-examples", &["millstream", "millstream-connectors"]),
    ("millstream-benches", &["millstream", "millstream-connectors"]),
    (TESTS, EVERYTHING),
];

/// Outside crates that few packages may know, so that what stands behind them can be exchanged: of codecs, one for what
/// is stored and one for what crosses the network.
const OWNED: [(&str, &[&str]); 4] = [
    ("etcd-client", &["millstream-ha"]),
    ("prost", &["millstream-proto"]),
    ("rocksdb", &["millstream-state"]),
    ("bincode", &["millstream-state", "millstream-runtime"]),
];

/// What the vocabulary must do without: runtimes, clocks, randomness, systems.
const TOO_HEAVY_FOR_THE_MODEL: [&str; 6] =
    ["tokio", "tonic", "rocksdb", "rand", "fastrand", "chrono"];

const TESTS: &str = "millstream-tests";
const EVERYTHING: &[&str] = &["*"];

/// One dependency of a workspace package.
struct Arrow {
    from: String,
    to: String,
    kind: DependencyKind,
}

fn check(packages: &[String], arrows: &[Arrow]) -> Vec<Finding> {
    let known =
        |name: &str| ALLOWED.iter().find(|(package, _)| *package == name).map(|(_, to)| *to);
    let unknown = packages.iter().filter(|name| known(name).is_none());
    let mut findings: Vec<Finding> = unknown
        .map(|name| Finding::file(name, "is not in the table of who may import whom"))
        .collect();
    for Arrow { from, to, kind } in arrows {
        let inside = packages.contains(to);
        let builds = *kind != DependencyKind::Development;
        let allowed = known(from).unwrap_or_default();
        let owners = OWNED.iter().find(|(owned, _)| owned == to).map(|(_, owners)| *owners);
        if inside && to == TESTS {
            findings.push(Finding::file(from, "nothing may depend on the tests"));
        } else if inside && builds && allowed != EVERYTHING && !allowed.contains(&to.as_str()) {
            findings.push(Finding::file(from, format!("may not depend on {to}")));
        } else if builds
            && from == "millstream-model"
            && TOO_HEAVY_FOR_THE_MODEL.contains(&to.as_str())
        {
            findings.push(Finding::file(from, format!("the vocabulary does without {to}")));
        } else if builds
            && let Some(owners) = owners
            && !owners.contains(&from.as_str())
        {
            let owners = owners.join(" and ");
            findings.push(Finding::file(from, format!("only {owners} may know {to}")));
        }
    }
    findings
}

#[test]
fn dependencies_follow_the_arrows() {
    let mut command = MetadataCommand::new();
    command.current_dir(workspace_root()).no_deps().other_options(vec!["--offline".to_owned()]);
    let metadata = command.exec().unwrap_or_else(|error| panic!("cargo metadata: {error}"));
    let members = metadata.workspace_packages();
    let packages: Vec<String> = members.iter().map(|package| package.name.to_string()).collect();
    let arrows = members.iter().flat_map(|package| {
        let arrow = |to: &cargo_metadata::Dependency| Arrow {
            from: package.name.to_string(),
            to: to.name.clone(),
            kind: to.kind,
        };
        package.dependencies.iter().map(arrow)
    });
    let arrows: Vec<Arrow> = arrows.collect();
    assert!(
        arrows.iter().any(|arrow| packages.contains(&arrow.to)),
        "no arrow inside of the workspace was seen"
    );
    settle("these dependencies are not allowed", check(&packages, &arrows));
}

#[cfg(test)]
mod can_fail {
    use super::*;

    fn findings(arrows: &[(&str, &str, DependencyKind)]) -> Vec<String> {
        let mut packages: Vec<String> =
            ALLOWED.iter().map(|(name, _)| (*name).to_owned()).collect();
        packages.push("millstream-sidecar".to_owned());
        let arrow = |&(from, to, kind): &(&str, &str, DependencyKind)| Arrow {
            from: from.to_owned(),
            to: to.to_owned(),
            kind,
        };
        let arrows: Vec<Arrow> = arrows.iter().map(arrow).collect();
        check(&packages, &arrows).into_iter().skip(1).map(|finding| finding.to_string()).collect()
    }

    #[test]
    fn on_an_unknown_package() {
        let found = check(&["millstream-sidecar".to_owned()], &[]);
        assert_eq!(
            found,
            [Finding::file("millstream-sidecar", "is not in the table of who may import whom")]
        );
    }

    #[test]
    fn on_a_forbidden_arrow() {
        use DependencyKind::{Build, Development, Normal};
        let found = findings(&[
            ("millstream-jobmanager", "millstream-runtime", Normal),
            ("millstream-jobmanager", "millstream-runtime", Build),
            ("millstream-jobmanager", "millstream-runtime", Development),
            ("millstream-jobmanager", "millstream-state", Normal),
            ("millstream-examples", "millstream-runtime", Normal),
            ("millstream-tests", "millstream-runtime", Normal),
        ]);
        let jobmanager = "millstream-jobmanager: may not depend on millstream-runtime";
        assert_eq!(
            found,
            [jobmanager, jobmanager, "millstream-examples: may not depend on millstream-runtime"]
        );
    }

    #[test]
    fn on_an_arrow_to_the_tests() {
        let found = findings(&[("millstream", "millstream-tests", DependencyKind::Development)]);
        assert_eq!(found, ["millstream: nothing may depend on the tests"]);
    }

    #[test]
    fn on_an_outside_crate_in_the_wrong_place() {
        let found = findings(&[
            ("millstream-model", "tokio", DependencyKind::Normal),
            ("millstream-runtime", "rocksdb", DependencyKind::Normal),
            ("millstream-state", "rocksdb", DependencyKind::Normal),
            ("millstream-runtime", "tokio", DependencyKind::Normal),
        ]);
        let model = "millstream-model: the vocabulary does without tokio";
        assert_eq!(found, [model, "millstream-runtime: only millstream-state may know rocksdb"]);
    }
}
