//! See `millstream_tests::decoders`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| millstream_tests::decoders::find("log-meta").attempt(bytes));
