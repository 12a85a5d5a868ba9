//! What was run, and how.

use super::rules::rules;
use crate::condition::Condition;
use crate::evict::Budget;
use crate::exp::{Demands, Dense, Generation, InstructionRow, Manifest, megabytes};
use crate::llama::{FlashAttn, Preamble};
use crate::report::analysis::{Analysis, RunFacts};
use crate::report::words::{capitalized, count, list, thousands};
use crate::report::{Run, bibtex};

/// One run of a report.
struct Setup<'a> {
    index: usize,
    run: &'a Run,
    facts: &'a RunFacts,
    analysis: &'a Analysis,
    /// The conditions that have rows.
    conditions: Vec<&'a Condition>,
}

/// The paragraph of one run.
pub(super) fn paragraph(index: usize, run: &Run, analysis: &Analysis) -> String {
    let conditions = analysis.conditions.iter().filter(|condition| condition.run == index);
    let conditions = conditions.map(|condition| &condition.condition).collect();
    let setup = Setup { index, run, facts: &analysis.runs[index], analysis, conditions };
    let sentences = [
        Some(setup.engine()),
        Some(setup.prompts()),
        setup.preamble(),
        Some(setup.conditions()),
        setup.policies(),
        setup.random(),
        setup.forget(),
        setup.axes(),
        setup.lanes(),
        setup.dense_lanes(),
        setup.fidelity(),
        Some(setup.answers()),
        setup.stopping(),
        setup.primary(),
        Some(setup.scoring()),
        setup.unscored(),
        setup.failures(),
    ];
    sentences.into_iter().flatten().collect::<Vec<_>>().join(" ")
}

impl Setup<'_> {
    fn generation(&self) -> &Generation {
        &self.run.manifest.generation
    }

    /// The conditions that evict.
    fn evicting(&self) -> impl Iterator<Item = &Condition> {
        self.conditions.iter().copied().filter(|condition| !condition.is_full())
    }

    fn engine(&self) -> String {
        let Manifest { model, .. } = &self.run.manifest;
        let build = self.run.manifest.build();
        let kv_types = distinct(self.conditions.iter().map(|condition| condition.kv_type.to_string()));
        let size = megabytes(model.file_size);
        let described = [&size, self.facts.quantization.as_str(), &format!("SHA-256 {}", short(&model.sha256))];
        let described: Vec<_> = described.into_iter().filter(|part| !part.is_empty()).collect();
        format!(
            "We ran {} ({}) with a KV cache of type {} and {} in kvllama {} [@kvllama] (commit {}) on llama.cpp {} [@llamacpp] ({}).",
            model.file_name(),
            described.join(", "),
            kv_types.join(" or "),
            self.flash_attention(),
            build.kvllama,
            build.git_commit,
            build.llama_cpp,
            if build.devices.is_empty() { build.platform.clone() } else { build.devices.join(", ") }
        )
    }

    /// A session turns it off if its policies read or change attention weights.
    fn flash_attention(&self) -> String {
        let asked = self.generation().flash_attn;
        let of_session = |conditions: &Vec<Condition>| match Demands::of(conditions, asked) {
            Ok(demands) => demands.flash_attn,
            Err(_) => asked,
        };
        let sessions = self.run.manifest.sessions.iter();
        let used = distinct(sessions.map(|session| match of_session(&session.conditions) {
            FlashAttn::On => "flash attention",
            FlashAttn::Off => "no flash attention",
            FlashAttn::Auto => "flash attention where llama.cpp has it for the device",
        }));
        used.join(" or, in other sessions, ")
    }

    fn prompts(&self) -> String {
        let Manifest { data, generation, .. } = &self.run.manifest;
        let template = match (&generation.chat_template, &generation.chat_template_sha256) {
            (Some(name), Some(sha256)) => format!("the chat template {name} (SHA-256 {})", short(sha256)),
            (_, Some(sha256)) => format!("another chat template than the model's own (SHA-256 {})", short(sha256)),
            (_, None) => "the model's own chat template".to_owned(),
        };
        let at_once = self.evicting().any(|condition| condition.budget.rolling().is_none());
        let everywhere = self.evicting().filter(|condition| condition.everywhere()).count();
        let places = match self.evicting().count() {
            all if all == everywhere => " in all layers and heads",
            _ if everywhere > 0 => " in all layers and heads, except as said below",
            _ => "",
        };
        let evicted = format!(
            "; then, before the last prompt token was decoded, entries of the KV cache were evicted{places}, so that every \
             generated token saw the cut cache"
        );
        format!(
            "Each of {} of the data set {} (SHA-256 {}) was rendered with {template} and read whole{}.",
            count(self.analysis.n_examples, "example"),
            data.name,
            short(&data.sha256),
            if at_once { &evicted } else { "" }
        )
    }

    /// The system prompt that the chat template adds, and the number of prompts that have it.
    fn preamble(&self) -> Option<String> {
        let gguf = &self.run.manifest.model.gguf;
        let preamble: Preamble = serde_json::from_value(gguf.get("preamble")?.clone()).ok()?;
        let prompts = self.run.prompts.as_ref()?;
        let with = prompts.iter().filter(|row| preamble.is_in(&row.pieces, &row.spans)).count();
        (with > 0).then(|| {
            format!(
                "To {with} of {} the chat template added a system prompt of its own, {} that belong to the span `template`: \
                 \"{}\".",
                count(prompts.len(), "prompt"),
                count(preamble.tokens, "token"),
                preamble.text
            )
        })
    }

    /// `the full cache`, `SnapKV at 0.1, 0.5 and 0.9`: curve by curve.
    fn conditions(&self) -> String {
        let mut series: Vec<(String, Vec<String>)> = Vec::new();
        for condition in self.evicting() {
            let (name, budget) = (condition.series(), condition.budget);
            // What evicts a certain part of the prompt has no budget.
            let budget = (budget != Budget::All).then(|| budget.words());
            match series.iter_mut().find(|(other, _)| *other == name) {
                Some((_, budgets)) => budgets.extend(budget),
                None => series.push((name, budget.into_iter().collect())),
            }
        }
        let full = distinct(self.conditions.iter().filter(|condition| condition.is_full()).map(|full| full.words()));
        let evicted = series.into_iter().map(|(name, budgets)| match budgets.is_empty() {
            true => name,
            false => format!("{name} at {}", list(&budgets)),
        });
        format!("Conditions were {}.", full.into_iter().chain(evicted).collect::<Vec<_>>().join("; "))
    }

    /// `SnapKV (window 64, kernel 5): what the last queries attend to [@li2024snapkv]`, one per policy.
    fn policies(&self) -> Option<String> {
        let defined = distinct(self.evicting().map(|condition| {
            let policy = &condition.policy;
            let summaries =
                [policy.family().summary].into_iter().chain(policy.wrappers().map(|wrapper| wrapper.summary));
            let summaries = summaries.map(|summary| summary.split(';').next().unwrap_or(summary)).collect::<Vec<_>>();
            let cited = bibtex::cite(bibtex::of_policy(policy));
            format!("{}: {}{cited}", policy.definition(), summaries.join(", "))
        }));
        (!defined.is_empty()).then(|| format!("The policies and what they keep: {}.", defined.join("; ")))
    }

    fn random(&self) -> Option<String> {
        let is_random = self.conditions.iter().any(|condition| condition.policy.policy().is_random());
        is_random.then(|| {
            format!(
                "Random eviction draws positions uniformly without replacement, nested over ratios, from seed {} by example \
                 and repeat.",
                self.generation().seed
            )
        })
    }

    fn forget(&self) -> Option<String> {
        self.conditions.iter().any(|condition| condition.target().is_some()).then(|| {
            "Under \"Instruction forgotten\" each trial evicted all tokens of one instruction and nothing else, once for each \
             instruction whose text was found in the prompt; under \"Filler forgotten\" the same number of tokens of the \
             messages, as close to it as possible, that belong to no instruction, not to the question and not to words that a \
             rule demands."
                .to_owned()
        })
    }

    /// What the axes say about their values.
    fn axes(&self) -> Option<String> {
        let said = distinct(self.evicting().flat_map(Condition::methods));
        (!said.is_empty()).then(|| said.join(" "))
    }

    fn lanes(&self) -> Option<String> {
        let lanes = self.generation().parallel;
        if self.generation().measure_speed {
            return Some(
                "Conditions answered alone, one after the other, so that their speeds can be compared.".to_owned(),
            );
        }
        (lanes > 1).then(|| {
            format!(
                "Up to {lanes} conditions of an example were answered side by side in a batch, which may change late tokens of \
                 an answer."
            )
        })
    }

    fn dense_lanes(&self) -> Option<String> {
        let dense = self.generation().dense;
        let longest = self.run.trials.iter().map(|row| row.n_prompt).max().unwrap_or(0);
        if !dense.applies(self.generation(), longest) || self.evicting().next().is_none() {
            return None;
        }
        let which = match dense {
            Dense::On => "Conditions",
            _ => "Conditions that kept at most half of the longest prompt",
        };
        Some(format!(
            "{which} answered from a contiguous copy of the entries that they kept where that was possible (dense lanes), which \
             may change low bits."
        ))
    }

    fn fidelity(&self) -> Option<String> {
        self.run.trials.iter().any(|row| row.kl_mean.is_some()).then(|| {
            "How far predictions moved was measured on the full cache's own answer, fed token by token to each cut cache: the KL \
             divergence per token (geometric mean over examples), the share of tokens whose most likely successor changed, and \
             the difference in negative log-likelihood."
                .to_owned()
        })
    }

    fn answers(&self) -> String {
        let Generation { sampling, n_predict, .. } = self.generation();
        let how = if sampling.is_greedy() {
            "generated greedily".to_owned()
        } else {
            let crate::llama::Sampling { temperature, top_k, top_p, min_p, .. } = sampling;
            format!("sampled (temperature {temperature}, top-k {top_k}, top-p {top_p}, min-p {min_p})")
        };
        let sessions = &self.run.manifest.sessions;
        let repeats = match self.run.manifest.repeats() {
            1 => String::new(),
            repeats => {
                let once = sessions.iter().any(|session| !session.once.is_empty());
                let once = if once { ", once where nothing is drawn" } else { "" };
                format!(", {repeats} times per example and condition{once}")
            }
        };
        format!("Answers of at most {} tokens were {how}{repeats}.", thousands(*n_predict))
    }

    fn stopping(&self) -> Option<String> {
        let stop = self.analysis.stopping.iter().find(|stop| stop.run == self.index)?;
        Some(format!(
            "Examples were visited in an order shuffled by the seed, under the stopping rule {} on betting confidence \
             sequences of the paired differences from the full cache (Waudby-Smith and Ramdas 2024; {:.0}% together, \
             Bonferroni over conditions); {}.",
            stop.rule,
            100.0 * stop.level,
            match stop.stopped_after {
                Some(after) => format!("it held after {after} of {} examples", stop.of),
                None => format!("it did not hold within {}", count(stop.of, "example")),
            }
        ))
    }

    fn primary(&self) -> Option<String> {
        let primary = self.analysis.primaries.iter().find(|primary| primary.run == self.index)?;
        Some(format!(
            "The primary comparison was named before the first trial, on {}: {}. It was tested alone, at 5%; all other \
             comparisons are exploratory.",
            primary.started.split('T').next().unwrap_or_default(),
            primary.asked()
        ))
    }

    fn scoring(&self) -> String {
        let ruled = list(&rules(self.run));
        let judge = self.run.instructions.iter().any(|row| row.judge_score.is_some()).then(|| {
            let name = self.run.judge.as_ref().map_or(String::new(), |judge| format!(" ({judge})"));
            format!("by a language model as judge{name}, in [0, 1]")
        });
        match (ruled.is_empty(), judge) {
            (false, Some(judge)) => format!("Instructions were scored by {ruled} where one exists, else {judge}."),
            (true, Some(judge)) => format!("Instructions were scored {judge}."),
            (false, None) => format!("Instructions were scored by {ruled}."),
            (true, None) => "Instructions were not scored.".to_owned(),
        }
    }

    fn unscored(&self) -> Option<String> {
        let is_unscored = |row: &&InstructionRow| row.score.is_none();
        let unscored = self.run.instructions.iter().filter(is_unscored).count();
        (unscored > 0 && unscored < self.run.instructions.len()).then(|| {
            format!(
                "{} of {} in the answers {} scored by no one, because no rule can check them, and are in no mean.",
                capitalized(&thousands(unscored)),
                count(self.run.instructions.len(), "instruction"),
                if unscored == 1 { "was" } else { "were" }
            )
        })
    }

    fn failures(&self) -> Option<String> {
        let failed = self.facts.failed;
        let are = if failed == 1 { "is" } else { "are" };
        (failed > 0).then(|| format!("{} failed and {are} excluded.", count(failed, "trial")))
    }
}

/// Values in the order in which they first appear.
fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    values.fold(Vec::new(), |mut seen, value| {
        if !seen.contains(&value) {
            seen.push(value);
        }
        seen
    })
}

/// The first characters of a checksum: enough to tell files apart in a paper.
fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}
