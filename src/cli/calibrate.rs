//! `kvllama calibrate`: measures the filters of the policy `qfilters`.

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::engine::EngineArgs;
use super::{interrupt, print};
use crate::calibrate::{Filters, Provenance, calibrate};
use crate::exp;
use crate::llama::{Context, ContextSettings, Model, Token};
use crate::models::EMBEDDED;
use crate::{Error, Result};

/// Measure the main direction of a model's queries, which the policy qfilters needs.
///
/// The model reads texts; for each query head, the direction along which its queries lie is stored, averaged over the
/// query heads of a KV head (Q-Filters, arXiv 2503.02812). The file is an .npz: an array `layer_0` of shape [KV heads, d]
/// for each layer, and `provenance`, the bytes of a JSON object with the SHA-256 of model and data. The filters serve
/// this model file alone: another quantization has its own.
#[derive(Debug, clap::Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// What the model reads: a data set (a bundled name, or a .jsonl file), whose prompts are read as `exp` reads them; any
    /// other file is a plain text, which is read in pieces of --length tokens.
    #[arg(long, value_name = "NAME|FILE")]
    data: String,

    /// Read at most this many tokens of a text at once.
    #[arg(long, value_name = "N", default_value_t = 2048, value_parser = clap::value_parser!(u32).range(2..=1 << 20))]
    length: u32,

    /// Read at most this many texts.
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1 << 20))]
    limit: u32,

    /// Where to write the filters [default: MODEL.qfilters.npz beside the model, where qfilters looks for them; for the
    /// embedded model default.qfilters.npz in $KVLLAMA_MODELS, or else in models].
    #[arg(long, value_name = "FILE.npz")]
    out: Option<PathBuf>,

    #[command(flatten)]
    engine: EngineArgs,
}

const EXAMPLES: &str = "\
Examples:
  kvllama calibrate --data demo
  kvllama exp --policy qfilters,knorm --ratio 0.5
  kvllama calibrate --model gemma-3-1b-it-q4_0 --data book.txt --out book.npz
  kvllama exp --model gemma-3-1b-it-q4_0 --policy qfilters:file=book.npz --ratio 0.5";

pub(super) fn execute(args: Args) -> Result<()> {
    let source = args.engine.source()?;
    let model = args.engine.load(false)?;
    let (texts, data_sha256) = args.texts(&model)?;
    let longest = texts.iter().map(Vec::len).max().unwrap_or(0);
    let limit = model.n_ctx_train() as usize;
    if longest > limit {
        return Err(Error::input(format!(
            "a text has {longest} tokens, and {} was trained for {limit}; lower --length",
            model.name()
        )));
    }
    interrupt::install()?;
    let context = args.engine.context(&model, u32::try_from(longest).unwrap_or(u32::MAX));
    let mut context = Context::new(&model, ContextSettings { tap: true, ..context })?;
    let (filters, queries) =
        calibrate(&mut context, &texts, |read| tracing::info!("{read} of {} texts are read", texts.len()))?;
    let provenance = Provenance {
        model: args.engine.model.clone().unwrap_or_else(|| EMBEDDED.to_owned()),
        model_sha256: source.sha256()?,
        data: args.data,
        data_sha256,
        texts: texts.len(),
        queries,
        kvllama: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let layers = filters.layers.len();
    let path = args.out.unwrap_or_else(|| Filters::place(&source));
    if let Some(directory) = path.parent().filter(|directory| !directory.as_os_str().is_empty()) {
        std::fs::create_dir_all(directory).map_err(Error::io("cannot make the directory", directory))?;
    }
    crate::files::write_atomically(&path, &Filters { filters, provenance }.to_npz())?;
    print(&format!("{}: filters of {layers} layers, from {queries} tokens in {} texts\n", path.display(), texts.len()))
}

impl Args {
    /// The texts as tokens, and the SHA-256 of their file.
    fn texts(&self, model: &Model) -> Result<(Vec<Vec<Token>>, String)> {
        let (length, limit) = (self.length as usize, self.limit as usize);
        let is_set = self.data.ends_with(".jsonl") || !Path::new(&self.data).is_file();
        if is_set {
            let (examples, facts) = exp::examples_named(&self.data)?;
            let tokens = |example| exp::prompt_of(model, example).map(|prompt| prompt.tokens);
            let prompts = examples.iter().take(limit).map(tokens);
            let cut = |tokens: Vec<Token>| tokens.into_iter().take(length).collect();
            return Ok((prompts.map(|tokens| tokens.map(cut)).collect::<Result<_>>()?, facts.sha256));
        }
        let text = std::fs::read_to_string(&self.data)
            .map_err(|error| Error::input(format!("cannot read the text {}: {error}", self.data)))?;
        let tokens = model.tokenize(&text)?;
        let bos = model.leading_bos();
        let piece = |piece: &[Token]| bos.iter().chain(piece).copied().collect();
        let pieces = tokens.chunks(length - usize::from(bos.is_some())).take(limit).map(piece).collect();
        Ok((pieces, crate::hex(&Sha256::digest(&text))))
    }
}
