//! `kvllama data`: checks, imports and writes data sets.

use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Subcommand;

use super::judge::variable;
use super::{interrupt, print, print_json};
use crate::api::{Endpoint, Patience, Secret, anthropic};
use crate::data::chats::{self, Chats};
use crate::data::generate::{self, Generated, Observer, generate};
use crate::data::recall::{self, Depths, Kind, Recall, Style};
use crate::data::{self, Example, Format, Survey, bundled, import, survey};
use crate::exp::texts_of;
use crate::llama::{LoadSettings, Model, Template};
use crate::models::{self, ModelSource};
use crate::{Error, Result, files};

/// Check, import or write data sets: what `exp --data` takes.
///
/// A data set is JSON lines, one example a line; docs/data.md shows one.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Check(Check),
    /// Import IFEval, each instruction with the words that state it.
    ///
    /// Takes its input_data.jsonl. Where the words of an instruction cannot be told, it has no `text`;
    /// stderr says how many have one.
    ImportIfeval(Import),
    /// Import IFEval with its instructions in system prompts, also defended and under attack.
    ///
    /// Takes lines as those of IFEval with `messages`, a system and a user turn. The words of an
    /// instruction are looked for in the system turn; stderr says how many were found. With --attacks, each
    /// system prompt is also attacked, and the answer is scored by what it does not reveal: docs/leakage.md.
    ImportSysIfeval(ImportSysIfeval),
    /// Import RULER, or needles in haystacks of its form.
    ///
    /// A line is {input, outputs} as RULER's scripts write it, or {context, question, answers}; `answer_prefix`,
    /// `task` and `index` may stand beside. Each answer is an instruction of its own, whose `text` is the sentence
    /// of the context that states it; tasks named qa... want any one of their answers.
    ImportRuler(ImportRuler),
    /// Import the English question answering and summaries of LongBench.
    ///
    /// A line is {input, context, answers, dataset}. Answers are scored by LongBench's own F1 or ROUGE-L; the
    /// questions are in kvllama's words.
    ImportLongbench(ImportLongbench),
    Generate(Generate),
    GenerateRecall(GenerateRecall),
    GenerateChats(GenerateChats),
}

/// Say what a data set holds, and everything that is wrong with it.
///
/// Every bad line is named, not only the first; then the exit code is 2. Warnings are for what is
/// valid but hardly meant: instructions without a `text` (their survival cannot be measured), a `text`
/// that stands in several places, near-duplicate prompts.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  kvllama data check mine.jsonl\n  kvllama data check multi --json | jq .types")]
struct Check {
    /// A JSONL file, or a bundled set (demo, multi, chats, chats-small, chats-demo, recall, recall-completion).
    #[arg(value_name = "FILE")]
    data: String,

    /// Print as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  kvllama data import-ifeval input_data.jsonl --out ifeval.jsonl
  kvllama exp --policy random --ratio 0.5 --data ifeval.jsonl")]
struct Import {
    /// The published file, JSON lines.
    #[arg(value_name = "FILE")]
    file: PathBuf,

    /// Where the examples go [default: stdout].
    #[arg(long, value_name = "OUT.jsonl")]
    out: Option<PathBuf>,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvllama data import-sys-ifeval sys_ifeval.jsonl --out sys-ifeval.jsonl
  kvllama data import-sys-ifeval sys_ifeval.jsonl --attacks attacks.jsonl --defences defenses.jsonl --out leak.jsonl
  kvllama exp --data leak.jsonl --scope system --policy streaming,snapkv --ratio 0.1..0.9:0.2")]
struct ImportSysIfeval {
    #[command(flatten)]
    import: Import,

    /// Messages that ask for the system prompt, as JSON lines {name, kind, category, text}.
    #[arg(long, value_name = "ATTACKS.jsonl")]
    attacks: Option<PathBuf>,

    /// Which of them: names, kinds or categories. The examples take them in turn.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',', default_value = "Plain", requires = "attacks")]
    attack: Vec<String>,

    /// Words that forbid to reveal the system prompt, as JSON lines {name, text} with `$system_prompt` in the text.
    #[arg(long, value_name = "DEFENCES.jsonl", visible_alias = "defenses")]
    defences: Option<PathBuf>,

    /// Which of them.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "standard_defense",
        visible_alias = "defense",
        requires = "defences"
    )]
    defence: String,

    /// The words of the defence that demand silence: `exp --protect instruction` keeps them, and their survival is
    /// measured [default: the whole defence].
    #[arg(long, value_name = "TEXT", requires = "defences")]
    demand: Option<String>,

    /// Whether the defence stands before or behind the system prompt.
    #[arg(long, value_enum, value_name = "ORDER", default_value = "as-written", requires = "defences")]
    order: data::Order,

    /// The turn in which the defence stands.
    #[arg(long, value_enum, value_name = "TURN", default_value = "system", requires = "defences")]
    defence_in: data::Place,

    /// The turn in which the system prompt itself stands.
    #[arg(long, value_enum, value_name = "TURN", default_value = "system")]
    directive_in: data::Place,

    /// Text before each system prompt, as a part of it.
    #[arg(long, value_name = "TEXT", default_value = "", hide_default_value = true)]
    preamble: String,

    /// What is asked. both: task and attack, two questions about the same cut cache; chat: the attack follows the task.
    #[arg(long, value_enum, value_name = "WHAT", default_value = "both", requires = "attacks")]
    ask: data::Ask,
}

impl ImportSysIfeval {
    fn format(&self) -> Result<Format> {
        let plain = self.directive_in == data::Place::System && self.preamble.is_empty();
        if self.attacks.is_none() && self.defences.is_none() && plain {
            return Ok(Format::SysIfeval { attacked: None });
        }
        if self.order != data::Order::AsWritten && self.defence_in != self.directive_in {
            return Err(Error::input(
                "--order changes nothing where the defence and the system prompt stand in different turns",
            ));
        }
        let attacks = self.attacks.as_ref().map(|file| data::attacks(file, &self.attack)).transpose()?;
        Ok(Format::SysIfeval {
            attacked: Some(data::Attacked {
                ask: if attacks.is_some() { self.ask } else { data::Ask::Task },
                attacks: attacks.unwrap_or_default(),
                defence: self.defences.as_ref().map(|file| data::defence(file, &self.defence)).transpose()?,
                demand: self.demand.clone(),
                preamble: self.preamble.clone(),
                order: self.order,
                defence_in: self.defence_in,
                directive_in: self.directive_in,
            }),
        })
    }
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  kvllama data import-ruler validation.jsonl --task niah_single_2 --out niah.jsonl
  kvllama exp --policy random --ratio 0.5 --data niah.jsonl")]
struct ImportRuler {
    #[command(flatten)]
    import: Import,

    /// Lines about the same context become one example with several questions: read once, cut once.
    #[arg(long)]
    group_by_context: bool,

    /// The task of lines that name none, such as niah_single_1, vt or qa_1.
    #[arg(long, value_name = "NAME")]
    task: Option<String>,

    /// chat: the question ends the prompt; completion: the beginning of the answer (`answer_prefix`) does.
    #[arg(long, value_name = "STYLE", default_value = "chat")]
    style: Style,
}

#[derive(Debug, clap::Args)]
#[command(after_help = "\
Example:
  kvllama data import-longbench hotpotqa.jsonl --out hotpotqa-examples.jsonl
  kvllama exp --policy random --ratio 0.5 --data hotpotqa-examples.jsonl")]
struct ImportLongbench {
    #[command(flatten)]
    import: Import,

    /// Lines about the same context become one example with several questions: read once, cut once.
    #[arg(long)]
    group_by_context: bool,

    /// chat: the question ends the prompt; completion: `Answer:` does.
    #[arg(long, value_name = "STYLE", default_value = "chat")]
    style: Style,
}

/// Hide facts in a natural text and ask for them: recall tasks as RULER has them.
///
/// Examples take the kinds, the lengths and, where they are listed, the depths in turn. Each fact that is asked for is
/// an instruction of its own, scored by RULER's string_match_all. The question comes after the text, so that
/// `exp --scope context` evicts before it is read, and without it after. The same seed gives the same file.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvllama data generate-recall --tokens 4000 --model llama.gguf --n 100 --out recall.jsonl
  kvllama data generate-recall --tokens 1000 --questions 8 --n 30 --out questions.jsonl
  kvllama data generate-recall --tokens 500..2000:500 --kind multikey --facts 8 --depth 0..1:0.25 --out depths.jsonl
  kvllama data generate-recall --tokens 800 --model base.gguf --style completion --out base.jsonl")]
struct GenerateRecall {
    /// Length of a prompt, template included: tokens of --model, or words if no model is given. A list, or FROM..TO:STEP.
    #[arg(long, value_name = "N,..", default_value = "600")]
    tokens: String,

    /// Examples.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    n: u32,

    /// Facts in a text, those that nobody asks for included; the kind `single` has one [default: 4, or --questions].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=48))]
    facts: Option<u32>,

    /// Questions about a text, each for another of its facts, with texts of the kind multikey: read once, cut once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=48))]
    questions: u32,

    /// single: one fact. multikey: one of several people's codes is asked for. multivalue: all codes of one person.
    /// multiquery: the codes of all people. vt: a chain of variables of the same value.
    /// [default: single,multikey,multivalue; with --questions multikey]
    #[arg(long, value_name = "KIND,..", value_delimiter = ',')]
    kind: Vec<Kind>,

    /// Where facts stand, as shares of the text: `uniform`, or depths that facts take in turn, as a list or FROM..TO:STEP.
    #[arg(long, value_name = "DEPTHS", default_value = "uniform")]
    depth: Depths,

    /// chat: a question; completion: the beginning of the answer, for models without a chat template.
    #[arg(long, value_name = "STYLE", default_value = "chat")]
    style: Style,

    /// Seed of all that is drawn.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,

    /// The model whose tokens are counted: a GGUF file, or a name from `kvllama models`.
    #[arg(long, value_name = "NAME|PATH")]
    model: Option<String>,

    /// Where the examples go [default: stdout].
    #[arg(long, value_name = "OUT.jsonl")]
    out: Option<PathBuf>,
}

/// Make chats whose later turns ask for what the system turn states.
///
/// The kinds are taken in turn. The same seed gives the same file, and a set of 100 chats begins with the set of 10.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  kvllama data generate-chats --turns 20 --n 30 --out long.jsonl
  kvllama exp --model smollm2-135m-instruct-q4_1 --data long.jsonl --policy streaming,random --ratio 0.5")]
struct GenerateChats {
    /// Chats.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    n: u32,

    /// Turns of a chat.
    #[arg(long, value_name = "N", default_value_t = 8, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    turns: u32,

    /// facts: one of four facts is asked for in each turn. language: answers are to be in another language until that is revoked.
    /// demo: rules in the language of the embedded model.
    #[arg(long, value_name = "KIND,..", value_delimiter = ',', default_value = "facts,facts,language")]
    kind: Vec<chats::Kind>,

    /// Seed of all that is drawn.
    #[arg(long, value_name = "S", default_value_t = 1)]
    seed: u64,

    /// Where the chats go [default: stdout].
    #[arg(long, value_name = "OUT.jsonl")]
    out: Option<PathBuf>,
}

/// Let a language model write new examples of 3 to 8 instructions.
///
/// Each is checked before it is taken: kwargs that a rule can verify, every instruction verbatim and
/// once in the prompt, no near-duplicates. The model is told what is wrong and may mend it. Examples are
/// on the disk as they come; those that the file already holds count, so a rerun goes on.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Examples:
  ANTHROPIC_API_KEY=... kvllama data generate --n 30 --out mine.jsonl
  kvllama data check mine.jsonl

Environment: ANTHROPIC_API_KEY, ANTHROPIC_BASE_URL.")]
struct Generate {
    /// Examples that the file is to hold.
    #[arg(long, value_name = "N", default_value_t = 30)]
    n: usize,

    /// The model that writes them.
    #[arg(long, value_name = "MODEL", default_value = generate::DEFAULT_MODEL)]
    model: String,

    /// The file, which may already hold examples.
    #[arg(long, value_name = "FILE.jsonl")]
    out: PathBuf,

    /// Print the result as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn execute(args: Args, quiet: bool) -> Result<()> {
    match args.command {
        Command::Check(args) => check(&args),
        Command::ImportIfeval(args) => import_as(Format::Ifeval, &args, false, quiet),
        Command::ImportSysIfeval(args) => import_as(args.format()?, &args.import, false, quiet),
        Command::ImportRuler(args) => {
            import_as(Format::Ruler { style: args.style, task: args.task }, &args.import, args.group_by_context, quiet)
        }
        Command::ImportLongbench(args) => {
            import_as(Format::Longbench { style: args.style }, &args.import, args.group_by_context, quiet)
        }
        Command::Generate(args) => write(&args, quiet),
        Command::GenerateRecall(args) => write_recall(&args, quiet),
        Command::GenerateChats(args) => write_chats(&args, quiet),
    }
}

fn check(args: &Check) -> Result<()> {
    let survey = match bundled::find(&args.data) {
        Some(set) => survey(set.jsonl),
        None => survey(&data::read(Path::new(&args.data))?),
    };
    if args.json {
        print_json(&survey)?
    } else {
        print(&survey_text(&survey))?
    }
    match (survey.errors.len(), survey.examples) {
        (0, 0) => Err(Error::input(format!("{} holds no examples; one JSON object a line is expected", args.data))),
        (0, _) => Ok(()),
        (bad, good) => Err(Error::input(format!("{}: {bad} of {} lines are no examples", args.data, bad + good))),
    }
}

fn import_as(format: Format, args: &Import, grouped: bool, quiet: bool) -> Result<()> {
    let same =
        |out: &PathBuf| args.file.canonicalize().is_ok_and(|file| out.canonicalize().is_ok_and(|out| file == out));
    if let Some(out) = args.out.as_ref().filter(|out| same(out)) {
        return Err(Error::input(format!("--out {} would overwrite what is read; name another file", out.display())));
    }
    let examples = import(&args.file, format, grouped)?;
    write_examples(&examples, args.out.as_deref())?;
    say(quiet, &imported_text(&examples));
    Ok(())
}

fn write_examples(examples: &[Example], out: Option<&Path>) -> Result<()> {
    let lines: String =
        examples.iter().map(|example| serde_json::to_string(example).expect("plain data") + "\n").collect();
    match out {
        Some(out) => files::write_atomically(out, lines.as_bytes()),
        None => print(&lines),
    }
}

fn write_recall(args: &GenerateRecall, quiet: bool) -> Result<()> {
    if !args.kind.is_empty()
        && args.kind.iter().all(|kind| *kind == Kind::Single)
        && args.facts.is_some_and(|facts| facts != 1)
    {
        return Err(Error::input(
            "--facts changes nothing: texts of the kind `single` have one fact; add other kinds by --kind",
        ));
    }
    let several = args.questions > 1;
    let kinds = match (args.kind.as_slice(), several) {
        ([], false) => vec![Kind::Single, Kind::MultiKey, Kind::MultiValue],
        // Only texts of this kind have facts for several questions.
        ([], true) => vec![Kind::MultiKey],
        (given, _) => given.to_vec(),
    };
    let facts = args.facts.unwrap_or(args.questions.max(4)) as usize;
    if several && (kinds.iter().any(|kind| *kind != Kind::MultiKey) || args.questions as usize > facts) {
        return Err(Error::input(format!(
            "--questions {} asks for as many facts one by one: give --kind multikey and --facts {0} or more",
            args.questions
        )));
    }
    let recall = Recall {
        lengths: lengths(&args.tokens)?,
        kinds,
        facts,
        questions: args.questions as usize,
        depths: args.depth.clone(),
        style: args.style,
        seed: args.seed,
    };
    // The model reads a completion prompt without a chat template.
    let template = (args.style == Style::Completion).then(|| Template::named("raw")).flatten();
    let template = template.map(|template| template.source().to_owned());
    let model = args.model.as_deref().map(|name| vocabulary(name, template)).transpose()?;
    if let Some(model) = model.as_ref().filter(|model| model.template().is_err()) {
        return Err(Error::input(format!(
            "the model {} carries no chat template; --style completion makes texts for such models",
            model.name()
        )));
    }
    let measure = |example: &Example| match &model {
        None => Ok(example.each_asked()[0].messages[0].content.split_whitespace().count()),
        Some(model) => Ok(texts_of(model, example)?.iter().map(|prompt| prompt.tokens.len()).max().unwrap_or(0)),
    };
    let examples = recall::generate(&recall, args.n as usize, &measure)?;
    write_examples(&examples, args.out.as_deref())?;
    let unit = if model.is_some() { "tokens" } else { "words (--model counts tokens)" };
    say(quiet, &format!("{} examples of {} {unit}", examples.len(), args.tokens));
    Ok(())
}

fn write_chats(args: &GenerateChats, quiet: bool) -> Result<()> {
    let chats = Chats { kinds: args.kind.clone(), turns: args.turns as usize, seed: args.seed };
    let examples = chats::generate(&chats, args.n as usize)?;
    write_examples(&examples, args.out.as_deref())?;
    say(quiet, &format!("{} chats of {} turns", examples.len(), args.turns));
    Ok(())
}

/// A model to count tokens with. `template` replaces its chat template.
fn vocabulary(name: &str, template: Option<String>) -> Result<Arc<Model>> {
    let settings = LoadSettings { dry: true, ..LoadSettings::default() };
    match models::resolve(name, &models::directory())? {
        ModelSource::Embedded => Model::from_bytes(name, models::EMBEDDED_GGUF, &LoadSettings::default(), template),
        ModelSource::File(path) => Model::from_file(&path, &settings, template),
    }
}

/// The lengths of `--tokens`.
fn lengths(text: &str) -> Result<Vec<usize>> {
    /// More tokens than any model reads.
    const MOST: f64 = 2e6;
    let numbers = text.split(',').map(recall::range).collect::<Result<Vec<_>>>()?.concat();
    let length = |number: &f64| match number.fract() == 0.0 && (1.0..=MOST).contains(number) {
        true => Ok(*number as usize),
        false => Err(Error::input(format!("--tokens {number}: a length is a whole number from 1 to {MOST}"))),
    };
    numbers.iter().map(length).collect()
}

fn imported_text(examples: &[Example]) -> String {
    let instructions: Vec<_> = examples.iter().flat_map(|example| &example.instructions).collect();
    let with_text = instructions.iter().filter(|instruction| instruction.text.is_some()).count();
    let (all, share) = (instructions.len(), percent(with_text, instructions.len()));
    format!("{} examples; the text is known of {with_text} of {all} instructions ({share})", examples.len())
}

fn write(args: &Generate, quiet: bool) -> Result<()> {
    interrupt::install()?;
    let endpoint = Endpoint {
        url: variable("ANTHROPIC_BASE_URL")?.unwrap_or_else(|| anthropic::URL.to_owned()),
        key: variable("ANTHROPIC_API_KEY")?.as_deref().and_then(Secret::new),
        patience: Patience::default(),
        parallel: 1,
    };
    let outcome = generate(&endpoint, &args.model, args.n, &args.out, &mut Progress { quiet })?;
    if args.json { print_json(&outcome) } else { print(&outcome_text(&outcome, &args.out)) }
}

fn outcome_text(outcome: &Generated, out: &Path) -> String {
    let Generated { examples, written, given_up, usage, cost_usd } = outcome;
    let cost = cost_usd.map_or(String::new(), |cost| format!(", ${cost:.4}"));
    format!(
        "{}: {examples} examples, {written} of them new, {given_up} given up; {} tokens in, {} out{cost}\n",
        out.display(),
        usage.read(),
        usage.output
    )
}

/// Number of warnings that are shown; JSON has all.
const SHOWN: usize = 20;

fn survey_text(survey: &Survey) -> String {
    let mut text = String::new();
    let Survey { examples, instructions, with_text, with_system, dialogues, .. } = survey;
    let _ = writeln!(
        text,
        "examples      {examples}, with a system turn {with_system}, with several user turns {dialogues}"
    );
    let _ = writeln!(
        text,
        "instructions  {instructions}, with their text in the prompt {with_text} ({})",
        percent(*with_text, *instructions)
    );
    if survey.chats > 0 {
        let _ = writeln!(text, "chats         {}, in which the model answers more than once", survey.chats);
    }
    if survey.with_questions > 0 {
        let _ = writeln!(text, "questions     {} examples have several about what they share", survey.with_questions);
    }
    let turns = (survey.chats > 0).then_some(("turns", survey.turns_per_chat));
    let questions = (survey.with_questions > 0).then_some(("questions", survey.questions_per_example));
    let spreads = [("an example", survey.instructions_per_example), ("words", survey.words_per_prompt)];
    for (name, spread) in spreads.into_iter().chain(turns).chain(questions) {
        let _ = writeln!(
            text,
            "{name:12}  {} to {}, quartiles {}, {}, {}",
            spread.min, spread.max, spread.lower_quartile, spread.median, spread.upper_quartile
        );
    }
    let mut types: Vec<_> = survey.types.iter().collect();
    types.sort_by_key(|(_, count)| std::cmp::Reverse(**count));
    for (kind, count) in types {
        let _ = writeln!(text, "{count:>7}  {kind}");
    }
    for warning in survey.warnings.iter().take(SHOWN) {
        let _ = writeln!(text, "warning  {warning}");
    }
    if survey.warnings.len() > SHOWN {
        let _ = writeln!(text, "warning  and {} more; --json has them all", survey.warnings.len() - SHOWN);
    }
    for bad in &survey.errors {
        let _ = writeln!(text, "line {}: {}", bad.line, bad.error);
    }
    text
}

fn percent(part: usize, whole: usize) -> String {
    format!("{:.1}%", 100.0 * part as f64 / whole.max(1) as f64)
}

fn say(quiet: bool, text: &str) {
    if !quiet {
        // Stderr may be closed; the file matters.
        let _ = writeln!(anstream::stderr(), "{text}");
    }
}

/// Shows the progress of writing on stderr, one line per step.
struct Progress {
    quiet: bool,
}

impl Observer for Progress {
    fn progress(&mut self, examples: usize, wanted: usize) {
        say(self.quiet, &format!("[{examples}/{wanted}]"));
    }

    fn rejected(&mut self, problems: &[String]) {
        say(self.quiet, &format!("not taken: {}", problems.join("; ")));
    }
}
