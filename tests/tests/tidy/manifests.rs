//! Manifests: every version and every lint is written once, in the root's, and each package inherits them. Two versions
//! of one crate, or a package that forgot the lints, would otherwise go unnoticed for long.

use millstream_tests::data::workspace_root;
use toml::{Table, Value};

use super::{Finding, settle};

const DEPENDENCIES: [&str; 3] = ["dependencies", "dev-dependencies", "build-dependencies"];
/// What a package takes from the workspace instead of saying it itself.
const INHERITED: [&str; 6] =
    ["version", "edition", "rust-version", "license", "repository", "publish"];

fn inherits(value: Option<&Value>) -> bool {
    value.and_then(|value| value.get("workspace")).and_then(Value::as_bool) == Some(true)
}

fn check(path: &str, manifest: &Table) -> Vec<Finding> {
    let mut findings = Vec::new();
    let package = manifest.get("package");
    for key in INHERITED {
        if !inherits(package.and_then(|package| package.get(key))) {
            findings.push(Finding::file(path, format!("{key} must be `{key}.workspace = true`")));
        }
    }
    if !inherits(manifest.get("lints")) {
        findings.push(Finding::file(
            path,
            "the lint table is not inherited (`[lints] workspace = true`)",
        ));
    }
    let targets =
        manifest.get("target").and_then(Value::as_table).into_iter().flat_map(Table::values);
    for table in targets.filter_map(Value::as_table).chain([manifest]) {
        for kind in DEPENDENCIES {
            let entries = table.get(kind).and_then(Value::as_table).into_iter().flatten();
            let strangers = entries.filter(|(_, entry)| !inherits(Some(entry)));
            findings.extend(strangers.map(|(name, _)| {
                Finding::file(path, format!("{name} in [{kind}] must be `{name}.workspace = true`"))
            }));
        }
    }
    findings
}

#[test]
fn packages_inherit_versions_and_lints() {
    let root = workspace_root();
    let parse = |path: &str| -> Table {
        let text = std::fs::read_to_string(root.join(path))
            .unwrap_or_else(|error| panic!("{path}: {error}"));
        text.parse().unwrap_or_else(|error| panic!("{path}: {error}"))
    };
    let workspace = parse("Cargo.toml");
    let members =
        workspace["workspace"]["members"].as_array().expect("the workspace lists its members");
    assert!(!members.is_empty());
    let findings = members.iter().flat_map(|member| {
        let path = format!("{}/Cargo.toml", member.as_str().expect("a member is a path"));
        check(&path, &parse(&path))
    });
    settle("versions and lints are written once, in the root manifest", findings);
}

#[cfg(test)]
mod can_fail {
    use super::*;

    fn findings(text: &str) -> Vec<String> {
        check("a/Cargo.toml", &text.parse().unwrap())
            .into_iter()
            .map(|finding| finding.what)
            .collect()
    }

    const GOOD: &str = "
        lints.workspace = true
        [package]
        version.workspace = true
        edition.workspace = true
        rust-version.workspace = true
        license.workspace = true
        repository.workspace = true
        publish.workspace = true
        [dependencies]
        serde = { workspace = true, features = [\"rc\"] }
    ";

    #[test]
    fn not_on_a_good_manifest() {
        assert_eq!(findings(GOOD), Vec::<String>::new());
    }

    #[test]
    fn on_a_version_of_its_own() {
        let text = format!(
            "{GOOD}\n[dev-dependencies]\nproptest = '1'\n[target.'cfg(unix)'.dependencies]\nlibc = {{ version = '1' }}"
        );
        let found = findings(&text);
        assert_eq!(
            found,
            [
                "libc in [dependencies] must be `libc.workspace = true`",
                "proptest in [dev-dependencies] must be `proptest.workspace = true`",
            ]
        );
    }

    #[test]
    fn on_what_is_not_inherited() {
        let text = GOOD
            .replace("lints.workspace = true", "")
            .replace("edition.workspace = true", "edition = '2021'");
        let found = findings(&text);
        assert_eq!(found[0], "edition must be `edition.workspace = true`");
        assert!(found[1].starts_with("the lint table is not inherited"), "{found:?}");
        assert_eq!(found.len(), 2);
    }
}
