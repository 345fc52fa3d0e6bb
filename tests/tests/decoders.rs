//! Every decoder takes what is right and survives what is wrong.
//!
//! The corpus of the fuzz targets is run as it lies in `fuzz/corpus`, so what a fuzzer has found once is tried for ever; then
//! random changes of it, from a seed that is printed. `UPDATE_GOLDEN=1` writes today's samples there.

use millstream_tests::data::workspace_root;
use millstream_tests::decoders::trial::{Random, changed};
use millstream_tests::decoders::{DECODERS, Decoder};
use std::path::PathBuf;

/// Changes of each decoder's samples. What lies in folders, and is synced there, is slow.
fn n_changes(decoder: &Decoder) -> u64 {
    match decoder.name {
        "record" | "attempt-record" | "outcome-record" | "fence" | "epoch" => 300,
        "log-meta" | "log-commit" | "log-segment" | "lines" | "json-lines" | "csv" => 1_000,
        _ => 5_000,
    }
}

fn folder(decoder: &Decoder) -> PathBuf {
    workspace_root().join("fuzz/corpus").join(decoder.name)
}

fn corpus(decoder: &Decoder) -> Vec<Vec<u8>> {
    let folder = folder(decoder);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        std::fs::create_dir_all(&folder).unwrap();
        for (number, sample) in (decoder.samples)().iter().enumerate() {
            std::fs::write(folder.join(format!("sample-{number:02}")), sample).unwrap();
        }
    }
    let files = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut paths: Vec<_> = files.map(|file| file.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

#[test]
fn what_is_right_is_taken() {
    for decoder in DECODERS {
        let samples = (decoder.samples)();
        assert!(!samples.is_empty(), "{}", decoder.name);
        for (number, sample) in samples.iter().enumerate() {
            assert!((decoder.takes)(sample), "sample {number} of {}", decoder.name);
            if let Some(mended) = (decoder.mend)(sample) {
                assert!((decoder.takes)(&mended), "mended sample {number} of {}", decoder.name);
            }
            let cut = &sample[..sample.len() - 1];
            assert!(!(decoder.takes)(cut), "cut sample {number} of {}", decoder.name);
        }
    }
}

#[test]
fn what_is_wrong_is_refused_and_nothing_worse() {
    let seed = std::env::var("SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed);
    println!("SEED={seed}");
    for decoder in DECODERS {
        let mut known = (decoder.samples)();
        known.extend(corpus(&decoder));
        known.iter().for_each(|bytes| decoder.attempt(bytes));
        let mut random = Random::new(seed);
        let (mut n_taken, mut n_refused) = (0u64, 0u64);
        for _ in 0..n_changes(&decoder) {
            let bytes = changed(&known[random.below(known.len())], &known, &mut random);
            (decoder.takes)(&bytes);
            if let Some(mended) = (decoder.mend)(&bytes) {
                if (decoder.takes)(&mended) { n_taken += 1 } else { n_refused += 1 }
            }
        }
        println!("{}: mended changes, {n_taken} taken and {n_refused} refused", decoder.name);
        let is_mended = known.iter().any(|bytes| (decoder.mend)(bytes).is_some());
        // Changes must get behind the checksums, and some of them must be noticed there.
        assert!(!is_mended || n_refused > 0 && n_taken > 0, "{}", decoder.name);
    }
}
