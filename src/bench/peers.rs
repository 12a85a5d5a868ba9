//! Peers: llama.cpp's own programs, run as processes on the same file with the same settings, and transformers with
//! kvpress.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value;

use super::timed;
use crate::llama::{ContextSettings, FlashAttn};
use crate::{Error, Result};

/// Where the programs are, and their settings.
pub struct Peers {
    directory: PathBuf,
    /// Options that have the same name in all of them.
    common: Vec<String>,
    flash_attn: FlashAttn,
    file: PathBuf,
    threads: u32,
}

const BENCH: &str = "llama-bench";
const BATCHED: &str = "llama-batched-bench";
const COMPLETION: &str = "llama-completion";
/// The kvpress program, which may be missing.
const KVPRESS: &str = "kvpress";

impl Peers {
    /// The programs in `directory` (`scripts/peers.sh` builds them), on the model in `file`.
    ///
    /// # Errors
    /// If one is missing.
    pub fn new(directory: &Path, file: &Path, settings: &ContextSettings, gpu_layers: Option<u32>) -> Result<Self> {
        for name in [BENCH, BATCHED, COMPLETION] {
            if !directory.join(name).is_file() {
                return Err(Error::input(format!(
                    "{} holds no {name}; build the peers with scripts/peers.sh {0}",
                    directory.display()
                )));
            }
        }
        let (k, v) = (settings.kv_type.k.as_str(), settings.kv_type.v.as_str());
        let (batch, threads) = (settings.n_batch.to_string(), settings.threads.to_string());
        let name = file.display().to_string();
        let mut common: Vec<String> =
            ["-m", &name, "-lm", "none", "-t", &threads, "-b", &batch, "-ub", &batch, "-ctk", k, "-ctv", v]
                .map(str::to_owned)
                .to_vec();
        if let Some(layers) = gpu_layers {
            common.extend(["-ngl".to_owned(), layers.to_string()]);
        }
        let (directory, file) = (directory.to_owned(), file.to_owned());
        Ok(Peers { directory, common, flash_attn: settings.flash_attn, file, threads: settings.threads })
    }

    /// Tokens per second of reading and of generating, by llama-bench.
    pub(super) fn single(&self, prompt: usize, answer: usize) -> Result<(f64, f64)> {
        let flash_attn = if self.flash_attn == FlashAttn::Off { "0" } else { "1" };
        let (prompt, answer) = (prompt.to_string(), answer.to_string());
        let text = self.run(BENCH, &["-p", &prompt, "-n", &answer, "-r", "1", "-fa", flash_attn, "-o", "json"])?;
        let tests: Vec<Value> = serde_json::from_str(&text).map_err(|error| unclear(BENCH, &error))?;
        let speed = |kind: &str| {
            let test = tests.iter().find(|test| test[kind].as_u64().is_some_and(|tokens| tokens > 0));
            test.and_then(|test| test["avg_ts"].as_f64()).ok_or_else(|| unclear(BENCH, &"no speed in it"))
        };
        Ok((speed("n_prompt")?, speed("n_gen")?))
    }

    /// Tokens per second of `lanes` sequences together on a shared prompt, by llama-batched-bench.
    pub(super) fn batched(&self, prompt: usize, answer: usize, lanes: usize) -> Result<f64> {
        let context = (prompt + lanes * answer).to_string();
        let (prompt, answer, lanes) = (prompt.to_string(), answer.to_string(), lanes.to_string());
        let text = self.run(
            BATCHED,
            &[
                "-c",
                &context,
                "-npp",
                &prompt,
                "-ntg",
                &answer,
                "-npl",
                &lanes,
                "-pps",
                "-kvu",
                "-fa",
                self.flash_attn(),
                "--output-format",
                "jsonl",
            ],
        )?;
        let line = text.lines().rfind(|line| line.starts_with('{')).unwrap_or_default();
        let test: Value = serde_json::from_str(line).map_err(|error| unclear(BATCHED, &error))?;
        test["speed_tg"].as_f64().ok_or_else(|| unclear(BATCHED, &"no speed in it"))
    }

    /// Seconds that one llama-completion process takes from start to end.
    pub(super) fn completion(&self, prompt: &str, answer: usize) -> Result<f64> {
        let answer = answer.to_string();
        let options = [
            "-p",
            prompt,
            "-n",
            &answer,
            "-c",
            "1024",
            "-no-cnv",
            "--temp",
            "0",
            "--ignore-eos",
            "--no-warmup",
            "-fa",
            self.flash_attn(),
        ];
        Ok(timed(|| self.run(COMPLETION, &options))?.1)
    }

    /// Seconds that one condition takes in transformers with kvpress, without loading the model; `None` if it is not
    /// installed.
    pub(super) fn kvpress(&self, prompt: usize, answer: usize, dtype: &str) -> Result<Option<f64>> {
        if !self.directory.join(KVPRESS).is_file() {
            return Ok(None);
        }
        let mut command = Command::new(self.directory.join(KVPRESS));
        command.arg(&self.file).args(["--dtype", dtype]);
        for (option, value) in [("--prompt", prompt), ("--answer", answer), ("--threads", self.threads as usize)] {
            command.args([option, &value.to_string()]);
        }
        let text = output(KVPRESS, &mut command)?;
        let line = text.lines().rfind(|line| line.starts_with('{')).unwrap_or_default();
        let found: Value = serde_json::from_str(line).map_err(|error| unclear(KVPRESS, &error))?;
        found["seconds"][0].as_f64().map(Some).ok_or_else(|| unclear(KVPRESS, &"no seconds in it"))
    }

    fn flash_attn(&self) -> &'static str {
        match self.flash_attn {
            FlashAttn::Auto => "auto",
            FlashAttn::On => "on",
            FlashAttn::Off => "off",
        }
    }

    /// Runs a program to its end and returns its output.
    fn run(&self, name: &str, options: &[&str]) -> Result<String> {
        output(name, Command::new(self.directory.join(name)).args(&self.common).args(options))
    }
}

fn output(name: &str, command: &mut Command) -> Result<String> {
    let output =
        command.stdin(Stdio::null()).output().map_err(|error| Error::failed(format!("cannot run {name}: {error}")))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("nothing");
        return Err(Error::failed(format!("{name} ended with {}; its last words: {last}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn unclear(name: &str, why: &dyn std::fmt::Display) -> Error {
    Error::failed(format!(
        "the output of {name} is not as expected: {why}; scripts/peers.sh builds a version that kvllama understands"
    ))
}
