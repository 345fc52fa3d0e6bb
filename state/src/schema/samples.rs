//! Sample values for types that are being recorded. A type that refuses the first of them (a `NonZeroU32`, a
//! date) gets the next, so the plainest come first; what pleases none must say its shape itself.

pub(super) const INTS: [u8; 5] = [0, 1, 2, 10, 100];
pub(super) const FLOATS: [f32; 3] = [0.0, 1.0, 0.5];
pub(super) const CHARS: [char; 3] = ['a', '0', ' '];
pub(super) const TEXTS: [&str; 16] = [
    "",
    "0",
    "1",
    "a",
    "A",
    "true",
    "1.0.0",
    "2000-01-01",
    "2000-01-01T00:00:00",
    "2000-01-01T00:00:00Z",
    "00:00:00",
    "127.0.0.1",
    "00000000-0000-4000-8000-000000000001",
    "http://localhost/",
    "a@localhost",
    "UTC",
];
/// Lengths of samples of bytes.
pub(super) const BYTES: [usize; 7] = [0, 1, 4, 8, 12, 16, 32];
pub(super) static ZEROS: [u8; 32] = [0; 32];
