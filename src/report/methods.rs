//! The methods paragraph of a run, ready to paste.

use super::Run;
use super::analysis::{Analysis, Question};
use super::words::{count, list, thousands};
use crate::exp::Manifest;
use crate::llama::Preamble;
use crate::stats;

/// One paragraph per run, and one on the statistics.
pub fn paragraphs(runs: &[Run], analysis: &Analysis) -> Vec<String> {
    let mut paragraphs: Vec<String> =
        runs.iter().enumerate().map(|(index, run)| of_run(index, run, analysis)).collect();
    paragraphs.push(statistics(runs, analysis));
    paragraphs
}

fn of_run(index: usize, run: &Run, analysis: &Analysis) -> String {
    let Manifest { model, data, generation, .. } = &run.manifest;
    let build = run.manifest.build();
    let facts = &analysis.runs[index];
    let mut text = String::new();
    let mut say = |sentence: String| {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(&sentence);
    };
    let mut kv_types: Vec<String> = Vec::new();
    for (_, condition) in run.manifest.conditions() {
        let kv_type = condition.kv_type.to_string();
        if !kv_types.contains(&kv_type) {
            kv_types.push(kv_type);
        }
    }
    let size = crate::exp::megabytes(model.file_size);
    let described = [&size, facts.quantization.as_str(), &format!("SHA-256 {}", short(&model.sha256))];
    let described: Vec<_> = described.into_iter().filter(|part| !part.is_empty()).collect();
    say(format!(
        "We ran {} ({}) and a KV cache of type {} with kvllama {} on llama.cpp {} ({}).",
        model.file_name(),
        described.join(", "),
        kv_types.join(" or "),
        build.kvllama,
        build.llama_cpp,
        if build.devices.is_empty() { build.platform.clone() } else { build.devices.join(", ") }
    ));
    let evictions = run.manifest.conditions().into_iter().map(|(_, condition)| condition);
    let everywhere = evictions.filter(|condition| !condition.is_full()).all(|condition| condition.everywhere());
    say(format!(
        "Each of {} of the data set {} (SHA-256 {}) was rendered with {} and read whole; then, before the \
         last prompt token was decoded, entries of the KV cache were evicted{}, so that every generated token saw the cut \
         cache.",
        count(analysis.n_examples, "example"),
        data.name,
        short(&data.sha256),
        match (&generation.chat_template, &generation.chat_template_sha256) {
            (Some(name), Some(sha256)) => format!("the chat template {name} (SHA-256 {})", short(sha256)),
            (_, Some(sha256)) => format!("another chat template than the model's own (SHA-256 {})", short(sha256)),
            (_, None) => "the model's own chat template".to_owned(),
        },
        if everywhere { " in all layers and heads" } else { "" }
    ));
    if let Some((preamble, prompts)) = preamble(run) {
        say(format!(
            "To {prompts} of {} the chat template added a system prompt of its own, {} that belong to the span `template`: \
             \"{}\".",
            count(run.prompts.as_ref().map_or(0, Vec::len), "prompt"),
            count(preamble.tokens, "token"),
            preamble.text
        ));
    }
    say(format!(
        "Conditions were {}; \"at r\" evicts the fraction r of the cached positions (floor(L(1 - r)) of L survive), the \
         last of which always survives.",
        list(&series(index, analysis))
    ));
    let conditions: Vec<_> = analysis
        .conditions
        .iter()
        .filter(|condition| condition.run == index)
        .map(|condition| &condition.condition)
        .collect();
    if conditions.iter().any(|condition| condition.policy.policy().is_random()) {
        say(format!(
            "Random eviction draws positions uniformly without replacement, nested over ratios, from seed {} by example \
             and repeat.",
            generation.seed
        ));
    }
    if conditions.iter().any(|condition| condition.target().is_some()) {
        say("Under forget:instruction each trial evicted all tokens of one instruction and nothing else, once for each instruction \
             whose text was found in the prompt; under forget:filler the same number of tokens of the messages, as close to it as \
             possible, that belong to no instruction, not to the question and not to words that a rule demands."
            .to_owned());
    }
    let mut said: Vec<String> = Vec::new();
    for sentence in conditions.iter().filter(|condition| !condition.is_full()).flat_map(|condition| condition.methods())
    {
        if !said.contains(&sentence) {
            said.push(sentence);
        }
    }
    said.into_iter().for_each(&mut say);
    if generation.parallel > 1 {
        say(format!(
            "Up to {} conditions of an example were answered side by side in a batch, which may change late tokens of an answer.",
            generation.parallel
        ));
    }
    let sampling = &generation.sampling;
    say(if sampling.is_greedy() {
        format!("Answers of at most {} tokens were generated greedily", thousands(generation.n_predict))
    } else {
        format!(
            "Answers of at most {} tokens were sampled (temperature {}, top-k {}, top-p {}, min-p {})",
            thousands(generation.n_predict),
            sampling.temperature,
            sampling.top_k,
            sampling.top_p,
            sampling.min_p
        )
    } + &match run.manifest.repeats() {
        1 => ".".to_owned(),
        repeats => {
            let once = run.manifest.sessions.iter().any(|session| !session.once.is_empty());
            let once = if once { ", once where nothing is drawn" } else { "" };
            format!(", {repeats} times per example and condition{once}.")
        }
    });
    if let Some(stop) = analysis.stopping.iter().find(|stop| stop.run == index) {
        say(format!(
            "Examples were visited in an order shuffled by the seed, under the stopping rule {} on betting confidence \
             sequences of the paired differences from the full cache (Waudby-Smith and Ramdas 2024; {:.0}% together, \
             Bonferroni over conditions); {}.",
            stop.rule,
            100.0 * stop.level,
            match stop.stopped_after {
                Some(after) => format!("it held after {after} of {} examples", stop.of),
                None => format!("it did not hold within {}", count(stop.of, "example")),
            }
        ));
    }
    if let Some(primary) = analysis.primaries.iter().find(|primary| primary.run == index) {
        say(format!(
            "The primary comparison was named before the first trial, on {}: {}. It was tested alone, at 5%; all other \
             comparisons are exploratory.",
            primary.started.split('T').next().unwrap_or_default(),
            primary.asked()
        ));
    }
    let judged = run.instructions.iter().any(|row| row.judge_score.is_some());
    let ruled = rules(run);
    say(match (ruled.is_empty(), judged) {
        (false, true) => format!("Instructions were scored by {} where one exists, else by a judge.", list(&ruled)),
        (true, true) => "Instructions were scored by a judge.".to_owned(),
        (false, false) => format!("Instructions were scored by {}.", list(&ruled)),
        (true, false) => "Instructions were not scored.".to_owned(),
    });
    if facts.failed > 0 {
        let are = if facts.failed == 1 { "is" } else { "are" };
        say(format!("{} failed and {are} excluded.", count(facts.failed, "trial")));
    }
    text
}

/// The system prompt that the chat template adds, and the number of prompts that have it.
fn preamble(run: &Run) -> Option<(Preamble, usize)> {
    let preamble: Preamble = serde_json::from_value(run.manifest.model.gguf.get("preamble")?.clone()).ok()?;
    let prompts = run.prompts.iter().flatten().filter(|row| preamble.is_in(&row.pieces, &row.spans)).count();
    (prompts > 0).then_some((preamble, prompts))
}

/// `the full cache`, `random at 0.1, 0.5 and 0.9`: the conditions of a run, curve by curve.
fn series(run: usize, analysis: &Analysis) -> Vec<String> {
    let mut series: Vec<(String, Vec<String>)> = Vec::new();
    for condition in analysis.conditions.iter().filter(|condition| condition.run == run && !condition.is_baseline()) {
        let (name, budget) = (condition.condition.series(), condition.condition.budget.words());
        match series.iter_mut().find(|(other, _)| *other == name) {
            Some((_, budgets)) => budgets.push(budget),
            None => series.push((name, vec![budget])),
        }
    }
    let baseline = analysis.conditions.iter().any(|condition| condition.run == run && condition.is_baseline());
    let evicted = series.into_iter().map(|(name, budgets)| format!("{name} at {}", list(&budgets)));
    baseline.then(|| "the full cache".to_owned()).into_iter().chain(evicted).collect()
}

fn statistics(runs: &[Run], analysis: &Analysis) -> String {
    let repeats = runs.iter().any(|run| run.manifest.repeats() > 1);
    let level = 100.0 * analysis.level;
    let mut text = format!(
        "The score of an example is the mean over its instructions{}; means are over n = {} with {level:.0}% {}.",
        if repeats { " and repeats" } else { "" },
        count(analysis.n_examples, "example"),
        if analysis.n_examples < stats::ENOUGH {
            "t intervals over examples"
        } else {
            "bootstrap intervals (BCa, resampling examples)"
        }
    );
    if let Some(chance) = analysis.chance_sentence() {
        text.push_str(&format!(
            " The earned score is (passed - chance) / (1 - chance). {chance} Its intervals are t intervals over examples."
        ));
    }
    if !analysis.doses.is_empty() {
        text.push_str(
            " How scores respond to the fraction evicted was tested by permutation of each example's least-squares slope (the full \
             cache at 0), with Holm's correction over policies; behind a certain slope its fractions were tested from the largest \
             down, all at a family-wise level of 5% together (Bretz et al. 2009).",
        );
    }
    if !analysis.comparisons.is_empty() {
        let mut asked: Vec<&str> = Vec::new();
        for comparison in &analysis.comparisons {
            let what = match comparison.question {
                Question::Baseline => "each condition with the full cache",
                Question::Axis(axis) => axis.question,
                Question::Run => "runs under the same condition",
            };
            if !asked.contains(&what) {
                asked.push(what);
            }
        }
        text.push_str(&format!(
            " We compared {} on the same examples by two-sided sign-flip permutation tests of the paired differences{}.",
            list(&asked),
            match analysis.comparisons.len() {
                1 => String::new(),
                n => format!(", with Holm's correction over all {}", count(n, "comparison")),
            }
        ));
        if analysis.comparisons.iter().any(|comparison| comparison.earned.is_some()) {
            text.push_str(" Raw and earned scores are a family each; earned scores decide.");
        }
    }
    text
}

/// The first characters of a checksum: enough to tell files apart in a paper.
fn short(sha256: &str) -> &str {
    sha256.get(..12).unwrap_or(sha256)
}

/// The rules that scored a run, by their makers.
fn rules(run: &Run) -> Vec<&'static str> {
    const FAMILIES: [(&str, &str); 2] = [("ruler:", "RULER's string match"), ("longbench:", "LongBench's metrics")];
    let mut found = Vec::new();
    for row in run.instructions.iter().filter(|row| row.pass_strict.is_some()) {
        let family = FAMILIES.iter().find(|(prefix, _)| row.kind.starts_with(prefix));
        let words = family.map_or("IFEval's strict rules", |(_, words)| words);
        if !found.contains(&words) {
            found.push(words);
        }
    }
    found
}
