//! A loaded GGUF.

use std::fs::File;
use std::io::Read as _;
use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::ffi::{self, RawModel};
use super::template::Template;
use super::weights::Weights;
use super::{LoadSettings, Preamble, Token};
use crate::{Error, Result};

/// Limit for texts: llama.cpp counts bytes and tokens of a text in 32 bits.
const MAX_TEXT: usize = 1 << 30;

/// A loaded model: weights, vocabulary, chat template.
pub struct Model {
    pub(super) raw: RawModel,
    name: String,
    template: Option<Template>,
    n_vocab: usize,
    pub(super) weights: Weights,
}

/// A layer with keys and values of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KvLayer {
    /// Number of the layer in the model.
    pub index: u32,
    /// Number of its KV heads.
    pub heads: usize,
    /// Whether it has a sliding window.
    pub local: bool,
}

/// The facts about a model that a run records.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Facts {
    /// The name in the GGUF.
    pub name: Option<String>,
    /// Architecture, such as `gemma3`.
    pub architecture: String,
    /// Architecture, size and quantization: `llama 135M Q4_1`.
    pub description: String,
    /// Number of parameters.
    pub n_params: u64,
    /// Bytes of all tensors.
    pub size: u64,
    /// Number of layers.
    pub n_layer: u32,
    /// Context length the model was trained for.
    pub n_ctx_train: u32,
    /// Sliding window of the local layers, 0 if there are none.
    pub sliding_window: u32,
    /// SHA-256 of the chat template.
    pub template_sha256: Option<String>,
    /// The system prompt that the chat template adds by itself.
    pub preamble: Option<Preamble>,
}

impl Model {
    /// Loads a GGUF file. A `template` replaces the file's own chat template.
    ///
    /// # Errors
    /// If the file is missing, is not a GGUF, is broken, or holds a model whose cache does not support eviction.
    pub fn from_file(path: &Path, settings: &LoadSettings, template: Option<String>) -> Result<Arc<Self>> {
        let shown = path.display();
        let mut magic = [0u8; 8];
        let read = File::open(path).and_then(|mut file| file.read_exact(&mut magic));
        match read {
            Err(error) if error.kind() != std::io::ErrorKind::UnexpectedEof => {
                return Err(Error::input(format!("cannot open the model {shown}: {error}")));
            }
            Ok(()) if magic.starts_with(b"GGUF") => {}
            _ => {
                return Err(Error::input(format!(
                    "{shown} is not a GGUF file; `kvllama pull` fetches models that are"
                )));
            }
        }
        super::gguf::check(path).map_err(|what| {
            Error::input(format!("the model {shown} is broken: {what}; download it again, or convert it anew"))
        })?;
        let weights = Weights::of_file(path);
        Self::finish(RawModel::from_file(path, settings), shown.to_string(), template, weights)
    }

    /// Loads a GGUF that is already in memory.
    pub fn from_bytes(
        name: &str,
        bytes: &'static [u8],
        settings: &LoadSettings,
        template: Option<String>,
    ) -> Result<Arc<Self>> {
        let weights = Weights::of_memory(bytes);
        Self::finish(RawModel::from_memory(name, bytes, settings), name.to_owned(), template, weights)
    }

    fn finish(raw: Option<RawModel>, name: String, template: Option<String>, weights: Weights) -> Result<Arc<Self>> {
        let Some(raw) = raw else {
            return Err(ffi::error(|reason| {
                let reason = if reason.is_empty() { "no reason given" } else { &reason };
                Error::input(format!(
                    "cannot load the model {name}: llama.cpp says \"{reason}\"; the file may be cut short or newer than \
                     this build"
                ))
            }));
        };
        if let Some(reason) = raw.unsuitable() {
            return Err(Error::input(format!("cannot use the model {name}: {reason}")));
        }
        let n_vocab = raw.n_vocab();
        let template = template.or_else(|| raw.chat_template()).map(Template::new);
        Ok(Arc::new(Model { raw, name, template, n_vocab, weights }))
    }

    /// The path or name under which it was loaded.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Size of the vocabulary: the length of a row of logits.
    pub fn n_vocab(&self) -> usize {
        self.n_vocab
    }

    /// Whether the rotation of keys depends on the size of the context (the long and short factors of LongRoPE).
    pub fn rope_depends_on_size(&self) -> bool {
        self.raw.rope_depends_on_size()
    }

    /// The context length the model was trained for.
    pub fn n_ctx_train(&self) -> u32 {
        self.raw.n_ctx_train()
    }

    /// The layers that have keys and values of their own.
    pub fn kv_layers(&self) -> Vec<KvLayer> {
        (0..self.raw.n_layer())
            .map(|index| {
                let (heads, local) = self.raw.kv_heads(index);
                KvLayer { index, heads, local }
            })
            .filter(|layer| layer.heads > 0)
            .collect()
    }

    /// The facts a run records.
    pub fn facts(&self) -> Facts {
        Facts {
            name: self.raw.meta("general.name"),
            architecture: self.raw.meta("general.architecture").unwrap_or_default(),
            description: described(&self.raw.description(), self.raw.n_params()),
            n_params: self.raw.n_params(),
            size: self.raw.size(),
            n_layer: self.raw.n_layer(),
            n_ctx_train: self.raw.n_ctx_train(),
            sliding_window: self.raw.n_swa(),
            template_sha256: self
                .template
                .as_ref()
                .map(|template| crate::hex(&Sha256::digest(template.source().as_bytes()))),
            preamble: Preamble::of(self),
        }
    }

    /// The chat template: the one given when loading, else the model's own.
    ///
    /// # Errors
    /// If there is none.
    pub fn template(&self) -> Result<&Template> {
        self.template.as_ref().ok_or_else(|| {
            Error::input(format!("the model {} carries no chat template; {}", self.name, self.template_advice()))
        })
    }

    /// A sentence that says which chat template to use if the model has none.
    pub fn template_advice(&self) -> String {
        let of_its_family: Vec<_> =
            Template::names().filter(|name| Template::mark(name).is_some_and(|mark| self.is_token(mark))).collect();
        let tuned = match of_its_family.as_slice() {
            [] => format!("a FILE or one of {}", Template::names().collect::<Vec<_>>().join(", ")),
            known => format!("--chat-template {}, whose marks its vocabulary has", known.join(" or ")),
        };
        format!("for a base model take --chat-template raw (the text as it is); for one that was tuned, {tuned}")
    }

    /// The control token of the [named](Template::named) template that this vocabulary lacks, and would read as plain
    /// text.
    pub fn lacks_mark_of(&self, template: &str) -> Option<&'static str> {
        Template::mark(template).filter(|mark| !self.is_token(mark))
    }

    fn is_token(&self, text: &str) -> bool {
        self.tokenize(text).is_ok_and(|tokens| tokens.len() == 1)
    }

    /// Checks tokens that a user typed.
    pub fn check_tokens(&self, tokens: &[Token]) -> Result<()> {
        match tokens.iter().find(|&&token| !self.has(token)) {
            Some(bad) => Err(Error::input(format!(
                "token {bad} is not in the vocabulary of {} (0..{})",
                self.name, self.n_vocab
            ))),
            None => Ok(()),
        }
    }

    /// Turns text into tokens and recognizes control tokens in it. Adds no BOS.
    ///
    /// # Errors
    /// If the text is 1 GiB or longer, or if the vocabulary has no tokens for it.
    pub fn tokenize(&self, text: &str) -> Result<Vec<Token>> {
        if text.len() >= MAX_TEXT {
            return Err(Error::input(format!("a text of {} bytes is too long to be tokenized", text.len())));
        }
        self.raw.tokenize(text, false, true).ok_or_else(|| {
            ffi::error(|reason| {
                Error::input(format!(
                    "the vocabulary of {} cannot express this text (llama.cpp says \"{reason}\"); the model file is broken",
                    self.name
                ))
            })
        })
    }

    fn has(&self, token: Token) -> bool {
        usize::try_from(token).is_ok_and(|id| id < self.n_vocab)
    }

    /// The bytes of one token as they appear in an answer; empty for control tokens and for ids outside the vocabulary.
    pub fn piece(&self, token: Token) -> Vec<u8> {
        if self.has(token) { self.raw.piece(token, false) } else { Vec::new() }
    }

    /// The bytes of one token, with a control token as its text.
    pub fn piece_with_control(&self, token: Token) -> Vec<u8> {
        if self.has(token) { self.raw.piece(token, true) } else { Vec::new() }
    }

    /// The text of an answer's tokens.
    pub fn text(&self, tokens: &[Token]) -> String {
        let bytes: Vec<u8> = tokens.iter().flat_map(|&token| self.piece(token)).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Whether a token ends the answer.
    pub fn is_end_of_generation(&self, token: Token) -> bool {
        self.has(token) && self.raw.is_end_of_generation(token)
    }

    /// The beginning-of-sequence token, if prompts of this model start with one.
    pub fn leading_bos(&self) -> Option<Token> {
        self.raw.bos().filter(|_| self.raw.adds_bos())
    }

    /// The texts of the BOS and EOS tokens, as templates use them.
    pub(super) fn special_texts(&self) -> (String, String) {
        let text = |token: Option<Token>| {
            token.map(|token| String::from_utf8_lossy(&self.piece_with_control(token)).into_owned()).unwrap_or_default()
        };
        (text(self.raw.bos()), text(self.raw.eos()))
    }
}

/// llama.cpp's description with the real number of parameters: llama.cpp guesses the size from the layers, and calls
/// SmolLM2 135M `256M`.
fn described(description: &str, n_params: u64) -> String {
    let parts: Vec<_> = description.splitn(3, ' ').collect();
    let [architecture, _, quantization] = parts[..] else { return description.to_owned() };
    let size = match n_params as f64 {
        n if n >= 1e9 => format!("{:.1}B", n / 1e9),
        n if n >= 1e7 => format!("{:.0}M", n / 1e6),
        n => format!("{:.1}M", n / 1e6),
    };
    format!("{architecture} {size} {quantization}")
}
