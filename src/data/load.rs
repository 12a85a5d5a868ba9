//! Reading and validating a data set.

use std::collections::HashMap;
use std::path::Path;

use super::{Example, Instruction, RUBRIC, Role, questions, turns};
use crate::score;
use crate::{Error, Result};

/// Reads a JSONL file of examples.
///
/// # Errors
/// Names the file, the line and what is wrong with it.
pub fn load(path: &Path) -> Result<Vec<Example>> {
    parse(&read(path)?, &path.display().to_string())
}

/// The text of a file of examples.
pub(crate) fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path)
        .map_err(|error| Error::input(format!("cannot read the examples in {}: {error}", path.display())))
}

/// Reads examples from JSONL text; errors refer to it as `name`.
pub fn parse(text: &str, name: &str) -> Result<Vec<Example>> {
    let examples: Vec<Example> = lines(text)
        .map(|(number, example)| example.map_err(|error| Error::input(format!("{name}, line {number}: {error}"))))
        .collect::<Result<_>>()?;
    if examples.is_empty() {
        return Err(Error::input(format!("{name} holds no examples; one JSON object a line is expected")));
    }
    Ok(examples)
}

/// Each line that is not blank, with its number: an example, or what is wrong with it.
pub(super) fn lines(text: &str) -> impl Iterator<Item = (usize, Result<Example>)> {
    // Windows editors and spreadsheets put a byte order mark at the start of a file.
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let mut first_seen: HashMap<String, usize> = HashMap::new();
    let numbered = (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty());
    numbered.map(move |(number, line)| {
        let example = example(line).and_then(|example| match first_seen.get(&example.id) {
            Some(line) => Err(Error::input(format!("the id `{}` is already taken by line {line}", example.id))),
            None => Ok(example),
        });
        if let Ok(example) = &example {
            first_seen.insert(example.id.clone(), number);
        }
        (number, example)
    })
}

/// The example of one line.
pub(super) fn example(line: &str) -> Result<Example> {
    let example: Example =
        serde_json::from_str(line).map_err(|error| Error::input(format!("not an example: {error}")))?;
    check(&example).map_err(|error| Error::input(format!("example `{}`: {error}", example.id.escape_debug())))?;
    Ok(example)
}

/// Checks that an example can be run and scored.
pub(super) fn check(example: &Example) -> Result<()> {
    let fail = |what: String| Err(Error::input(what));
    if example.id.is_empty() || example.id.chars().any(char::is_control) {
        return fail("the id must not be empty or hold control characters".to_owned());
    }
    let asks = example.messages.last().is_some_and(|message| message.role == Role::User);
    if !asks && (example.questions.is_empty() || example.messages.is_empty()) {
        return fail("the last message must be the user's".to_owned());
    }
    if example.messages.iter().skip(1).any(|message| message.role == Role::System) {
        return fail("only the first message may be the system's".to_owned());
    }
    if let Some(at) = example.messages.iter().position(|message| message.content.trim().is_empty()) {
        return fail(format!("message {at} is empty"));
    }
    questions::check(example)?;
    let n_turns = example.n_turns();
    if n_turns > turns::MOST_TURNS {
        return fail(format!("the model is to answer {n_turns} times; a chat has at most {} turns", turns::MOST_TURNS));
    }
    if example.instructions.is_empty() {
        return fail("there is no instruction to check".to_owned());
    }
    for (field, text) in [("context", &example.context), ("question", &example.question)] {
        if let Some(text) = text
            && example.locate(text).is_none()
        {
            return fail(format!("the `{field}` does not stand verbatim in any message"));
        }
    }
    for (index, instruction) in example.instructions.iter().enumerate() {
        check_instruction(example, instruction)
            .map_err(|error| Error::input(format!("instruction {index} (`{}`): {error}", instruction.kind)))?;
    }
    Ok(())
}

/// Checks one of its instructions.
pub(super) fn check_instruction(example: &Example, instruction: &Instruction) -> Result<()> {
    turns::check(example, instruction)?;
    // What a question alone says is known to the answer to that question alone.
    let said = |text: &str| {
        let questions = || example.turns_of(instruction).filter_map(|turn| example.questions.get(turn));
        example.locate(text).is_some() || (!text.is_empty() && questions().any(|question| question.contains(text)))
    };
    if instruction.text.as_ref().is_some_and(|text| !said(text)) {
        return Err(Error::input("its `text` does not stand verbatim in any message"));
    }
    if instruction.kind != RUBRIC {
        score::validate(&instruction.kind, &instruction.kwargs)?;
    }
    if let Some(secret) = score::secret(&instruction.kind, &instruction.kwargs)
        && !said(secret)
    {
        return Err(Error::input(format!(
            "its secret `{}` does not stand verbatim in any message, so no answer could leak it",
            secret.escape_debug()
        )));
    }
    if instruction.kind != RUBRIC {
        return Ok(());
    }
    match &instruction.rubric {
        Some(rubric) if !rubric.trim().is_empty() => Ok(()),
        _ => Err(Error::input("it needs a `type` that a rule can check, or a `rubric` for a judge")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"{"id":"a","messages":[{"role":"system","content":"Be brief."},{"role":"user","content":"Say hi without commas."}],"instructions":[{"type":"punctuation:no_comma","text":"without commas"},{"rubric":"It is brief.","text":"Be brief."}],"question":"Say hi"}"#;

    #[test]
    fn examples_are_read_and_their_pieces_found() {
        let examples = parse(&format!("{GOOD}\n\n"), "x").unwrap();
        assert_eq!(examples[0].instructions[1].kind, RUBRIC);
        assert_eq!(examples[0].locate("without commas"), Some((1, 7..21)));
        let again = serde_json::to_string(&examples[0]).unwrap();
        assert_eq!(parse(&again, "x").unwrap(), examples);
    }

    #[test]
    fn errors_name_the_line_and_the_mend() {
        for (from, to, expected) in [
            ("\"id\":\"a\"", "\"idd\":\"a\"", "unknown field `idd`"),
            (
                "without commas\"}",
                "with commas\"}",
                "instruction 0 (`punctuation:no_comma`): its `text` does not stand",
            ),
            ("punctuation:no_comma", "punctuation:no_coma", "punctuation:no_coma"),
            ("\"question\":\"Say hi\"", "\"question\":\"Say ho\"", "the `question` does not stand verbatim"),
            ("\"role\":\"user\"", "\"role\":\"assistant\"", "the last message must be the user's"),
            ("It is brief.", " ", "or a `rubric` for a judge"),
        ] {
            assert!(GOOD.contains(from), "{from}");
            let error = parse(&format!("{GOOD}\n{}", GOOD.replacen(from, to, 1).replace("\"a\"", "\"b\"")), "x.jsonl")
                .unwrap_err();
            assert!(error.to_string().starts_with("x.jsonl, line 2: "), "{error}");
            assert!(error.to_string().contains(expected), "{error}");
        }
        let twice = parse(&format!("{GOOD}\n{GOOD}"), "x").unwrap_err();
        assert!(twice.to_string().contains("line 2: the id `a` is already taken by line 1"), "{twice}");
    }
}
