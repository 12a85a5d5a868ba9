//! `--config FILE.toml`: a file of long options, which are inserted before the typed arguments.

use std::ffi::OsString;
use std::path::Path;

use clap::parser::ValueSource;
use clap::{ArgAction, CommandFactory as _};
use toml::{Table, Value};

use super::Cli;
use crate::{Error, Result};

/// The arguments of the process, with those of `exp --config FILE` inserted. A typed argument wins.
pub(super) fn arguments() -> Result<Vec<OsString>> {
    merge(std::env::args_os().collect())
}

pub(super) fn merge(typed: Vec<OsString>) -> Result<Vec<OsString>> {
    // The parse that follows reports usage errors.
    let Ok(matches) = Cli::command().try_get_matches_from(&typed) else { return Ok(typed) };
    let Some(("exp", exp)) = matches.subcommand() else { return Ok(typed) };
    let Some(path) = exp.get_one::<std::path::PathBuf>("config") else { return Ok(typed) };
    let table = read(path)?;
    let command = Cli::command();
    let command = command.find_subcommand("exp").expect("exp is a subcommand");

    let mut merged = typed.clone();
    for (key, value) in &table {
        let argument = command
            .get_arguments()
            .find(|argument| argument.get_long() == Some(key.as_str()) && key != "config")
            .ok_or_else(|| unknown(path, key, command))?;
        if exp.value_source(argument.get_id().as_str()) == Some(ValueSource::CommandLine) {
            continue;
        }
        let is_flag = matches!(argument.get_action(), ArgAction::SetTrue);
        match (is_flag, value) {
            (true, Value::Boolean(true)) => merged.push(format!("--{key}").into()),
            (true, Value::Boolean(false)) => {}
            (true, _) => return Err(Error::input(format!("{}: `{key}` must be true or false", path.display()))),
            (false, value) => merged.push(format!("--{key}={}", text(path, key, value)?).into()),
        }
    }
    Ok(merged)
}

fn read(path: &Path) -> Result<Table> {
    let text = std::fs::read_to_string(path)
        .map_err(|error| Error::input(format!("cannot read the config {}: {error}", path.display())))?;
    text.parse().map_err(|error: toml::de::Error| {
        let line = error.span().map_or(1, |span| 1 + text[..span.start.min(text.len())].matches('\n').count());
        Error::input(format!("{}, line {line}: this is not TOML: {}", path.display(), error.message()))
    })
}

fn unknown(path: &Path, key: &str, command: &clap::Command) -> Error {
    let known = command.get_arguments().filter_map(clap::Arg::get_long).filter(|&long| long != "config");
    let nearest = known.max_by(|a, b| strsim::jaro(a, key).total_cmp(&strsim::jaro(b, key))).unwrap_or_default();
    Error::input(format!(
        "{}: unknown key `{key}`, did you mean `{nearest}`? Keys are the long options of `kvllama {} --help`",
        path.display(),
        command.get_name()
    ))
}

fn text(path: &Path, key: &str, value: &Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Integer(_) | Value::Float(_) | Value::Boolean(_) => Ok(value.to_string()),
        Value::Array(items) => {
            let items: Result<Vec<_>> = items.iter().map(|item| text_of_item(path, key, item)).collect();
            Ok(items?.join(","))
        }
        _ => {
            Err(Error::input(format!("{}: `{key}` must be a string, a number, true, false, or a list", path.display())))
        }
    }
}

fn text_of_item(path: &Path, key: &str, item: &Value) -> Result<String> {
    match item {
        Value::Array(_) => Err(Error::input(format!("{}: `{key}` holds a list within a list", path.display()))),
        item => text(path, key, item),
    }
}

/// Checks that this CPU has the instructions that the build uses. The default build is tuned for the CPU that built it;
/// without this message it would end with SIGILL on a CPU that lacks some of them.
pub(super) fn cpu_matches_build() -> Result<()> {
    #[cfg(target_arch = "x86_64")]
    {
        macro_rules! missing {
            ($($feature:tt),+) => {
                [$((cfg!(target_feature = $feature) && !std::arch::is_x86_feature_detected!($feature)).then_some($feature)),+]
            };
        }
        let missing: Vec<_> =
            missing!("avx", "avx2", "fma", "f16c", "bmi2", "avx512f", "avx512bw", "avx512vl", "avx512vnni")
                .into_iter()
                .flatten()
                .collect();
        if !missing.is_empty() {
            return Err(Error::input(format!(
                "this kvllama was built for a CPU with {}, which this one lacks; build it on this machine",
                missing.join(", ")
            )));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(toml: &str, typed: &[&str]) -> std::result::Result<Vec<String>, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), toml).unwrap();
        let config = format!("--config={}", file.path().display());
        let arguments = ["kvllama", "exp", &config].iter().chain(typed).map(OsString::from).collect();
        let merged = merge(arguments).map_err(|error| error.to_string())?;
        Ok(merged[3..].iter().map(|text| text.to_string_lossy().into_owned()).collect())
    }

    #[test]
    fn a_config_file_stands_for_options_and_what_is_typed_wins() {
        let toml = "policy = ['random', 'streaming']\nratio = [0.1, '0.3..0.9:0.2']\nseed = 7\nno-baseline = true\njson = false";
        assert_eq!(
            merged(toml, &["--seed=9"]).unwrap(),
            ["--seed=9", "--no-baseline", "--policy=random,streaming", "--ratio=0.1,0.3..0.9:0.2"]
        );
    }

    #[test]
    fn unknown_keys_and_wrong_types_are_refused() {
        assert!(merged("polcy = 'random'", &[]).unwrap_err().contains("unknown key `polcy`, did you mean `policy`?"));
        assert!(merged("config = 'x'", &[]).unwrap_err().contains("unknown key `config`"));
        assert!(merged("no-baseline = 'yes'", &[]).unwrap_err().contains("must be true or false"));
        assert!(merged("policy = [['a']]", &[]).unwrap_err().contains("list within a list"));
        assert!(merged("policy = ", &[]).unwrap_err().contains("line 1: this is not TOML: "));
    }
}
