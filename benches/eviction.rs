//! `cargo bench`: the cost of an eviction on the embedded model, as the table of `kvllama bench eviction`.

use kvllama::bench::{Table, eviction};
use kvllama::llama::{LoadSettings, Model};
use kvllama::models::{EMBEDDED, EMBEDDED_GGUF};

fn main() -> kvllama::Result<()> {
    let model = Model::from_bytes(EMBEDDED, EMBEDDED_GGUF, &LoadSettings::default(), None)?;
    let (note, rows) = eviction(&model, 15)?;
    print!("{}", Table { section: "eviction".to_owned(), note, rows }.markdown());
    Ok(())
}
