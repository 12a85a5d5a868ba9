//! A GGUF as the judge, in kvllama's own engine. A grammar limits its output to a verdict.

use std::sync::Arc;

use super::prompt::{self, FORM, GRAMMAR, MAX_TOKENS, SYSTEM};
use super::{Judge, Reply, Report, Request, Verdict};
use crate::api::price::{Price, Usage};
use crate::llama::{Context, ContextSettings, Grammar, Model, Prompt, Token, Turn};
use crate::{Error, Result};

/// A local model.
pub struct Local {
    model: Arc<Model>,
    settings: ContextSettings,
    sha256: String,
    context: Option<Context>,
    /// The tokens in the context. Prompts for one response have the same beginning, which is read once.
    read: Vec<Token>,
}

/// The one sequence of the context.
const SEQ: i32 = 0;

impl Local {
    /// `settings.n_ctx` is the minimum; a longer prompt makes a larger context, up to the length that the model was
    /// trained for. `sha256` is that of the model file.
    ///
    /// # Errors
    /// If the model has no chat template.
    pub fn new(model: &Arc<Model>, settings: ContextSettings, sha256: String) -> Result<Self> {
        model.template()?;
        // The whole prompt must stay in the cache, also in sliding-window layers, so that the next prompt can reuse its
        // beginning.
        let settings = ContextSettings { n_seq: 1, swa_full: true, ..settings };
        Ok(Local { model: Arc::clone(model), settings, sha256, context: None, read: Vec::new() })
    }

    fn ask(&mut self, request: &Request, usage: &mut Usage) -> Result<std::result::Result<Verdict, String>> {
        let (response, criterion) = prompt::question(request);
        // All text is in the user's turn, because not every template supports a system turn.
        let content = format!("{SYSTEM}\n\n{FORM}\n\n{response}\n\n{criterion}");
        let turn = Turn { role: "user".to_owned(), content };
        let tokens = Prompt::chat(&self.model, &[turn], &[])?.tokens;
        usage.input += tokens.len() as u64;
        let needed = tokens.len() + MAX_TOKENS as usize;
        let limit = self.model.n_ctx_train().max(self.settings.n_ctx);
        if needed > limit as usize {
            return Ok(Err(format!(
                "prompt and verdict take {needed} tokens, the judge's context holds {limit}; set --ctx to go beyond"
            )));
        }
        let mut logits = self.read(&tokens, needed)?;
        let mut grammar = Grammar::new(&self.model, GRAMMAR)?;
        let mut verdict = Vec::new();
        while verdict.len() < MAX_TOKENS as usize {
            let Some(token) = grammar.next(&logits)? else { break };
            verdict.push(token);
            logits = self.step(token)?;
        }
        usage.output += verdict.len() as u64;
        Ok(prompt::parse_text(&self.model.text(&verdict)))
    }

    /// Reads the part of a prompt that is not in the context yet, and returns the logits for the next token.
    fn read(&mut self, tokens: &[Token], needed: usize) -> Result<Vec<f32>> {
        let context = match self.context.take().filter(|context| context.n_ctx() >= needed) {
            Some(context) => self.context.insert(context),
            None => {
                self.read.clear();
                let n_ctx = u32::try_from(needed).unwrap_or(u32::MAX).max(self.settings.n_ctx);
                let settings = ContextSettings { n_ctx, ..self.settings.clone() };
                self.context.insert(Context::new(&self.model, settings)?)
            }
        };
        let common = self.read.iter().zip(tokens).take_while(|(old, new)| old == new).count();
        // Cleared before the decode and set after it, so that a failed decode leaves no tokens that count as read.
        self.read.clear();
        let first = context.truncate(SEQ, common.min(tokens.len() - 1))?;
        context.read(SEQ, &tokens[first..], first, true)?;
        self.read = tokens.to_vec();
        Ok(context.logits((tokens.len() - first - 1) % self.settings.n_batch as usize)?.to_vec())
    }

    fn step(&mut self, token: Token) -> Result<Vec<f32>> {
        let context = self.context.as_mut().expect("a prompt was read");
        context.read(SEQ, &[token], context.next_pos(SEQ), true)?;
        Ok(context.logits(0)?.to_vec())
    }
}

impl Judge for Local {
    fn fingerprint(&self) -> String {
        let template = self.model.facts().template_sha256.unwrap_or_default();
        format!("local sha256={} template={}", self.sha256, &template[..template.len().min(16)])
    }

    /// `None`: a local judge costs only time.
    fn price(&self) -> Option<Price> {
        None
    }

    fn judge(&mut self, requests: &[Request], report: &mut Report) -> Result<()> {
        for request in requests {
            if crate::interrupt::requested() {
                return Err(Error::Interrupted);
            }
            let mut usage = Usage::default();
            let verdict = self.ask(request, &mut usage)?;
            report(Reply { key: request.key.clone(), verdict, usage })?;
        }
        Ok(())
    }
}
