//! Replays `fuzz/corpus`, and breaks its files at random: a short look in every test run. `scripts/fuzz.sh` looks longer.

use std::path::Path;
use std::time::{Duration, Instant};

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng as _;

use super::{TARGETS, run};
use crate::random::below;

/// No input of a few kilobytes may take longer, also where other programs use the machine.
const LONGEST: Duration = Duration::from_secs(10);

fn corpus(target: &str) -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut paths: Vec<_> = folder.read_dir().expect(target).map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Texts that readers stumble over.
const STUMBLES: [&str; 24] = [
    "\0",
    "\n",
    "\r\n",
    "\"",
    "\\",
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "..",
    "-1",
    "0",
    "18446744073709551616",
    "4294967295",
    "1e999",
    "NaN",
    "null",
    "\u{feff}",
    "\u{202e}",
    "İ",
    "e\u{301}",
    "𝕏",
];

/// Changes one to four places.
fn broken(rng: &mut ChaCha8Rng, whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..=below(rng, 4) {
        let at = below(rng, bytes.len() as u64 + 1);
        let end = (at + below(rng, 20)).min(bytes.len());
        match below(rng, 5) {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..end)),
            2 => bytes.splice(at..end, [below(rng, 256) as u8]).for_each(drop),
            3 => bytes.splice(at..end, STUMBLES[below(rng, 24)].bytes()).for_each(drop),
            _ => {
                let again = bytes[at..end].repeat(1 + below(rng, 50));
                bytes.splice(at..at, again).for_each(drop);
            }
        }
    }
    bytes
}

fn replayed(target: &str, n_broken: usize) {
    assert!(TARGETS.iter().any(|(name, _)| *name == target));
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let corpus = corpus(target);
    let broken = (0..n_broken).map(|_| {
        let whole = &corpus[below(&mut rng, corpus.len() as u64)];
        broken(&mut rng, whole)
    });
    for input in corpus.iter().cloned().chain(broken) {
        let start = Instant::now();
        let ended = std::panic::catch_unwind(|| run(target, &input));
        let taken = start.elapsed();
        assert!(ended.is_ok() && taken < LONGEST, "{target}, {taken:?}: {:?}", String::from_utf8_lossy(&input));
    }
}

macro_rules! replays {
    ($($target:ident: $n_broken:literal,)+) => {$(
        #[test]
        fn $target() {
            replayed(stringify!($target), $n_broken);
        }
    )+};
}

// Templates are not broken here: one that needs too much memory ends the process, as it should.
replays! {
    data: 500,
    trials: 40,
    instructions: 40,
    manifest: 40,
    config: 100,
    grammars: 2000,
    template: 0,
    gguf: 2000,
    judge: 2000,
    rules: 1000,
    exec: 2000,
}
