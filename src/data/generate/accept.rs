//! The requirements for a generated example.

use super::super::load::{check, check_instruction};
use super::super::near::{NEAR, Prompts};
use crate::data::{Example, Instruction, RUBRIC};

/// Number of instructions per example.
pub(super) const INSTRUCTIONS: std::ops::RangeInclusive<usize> = 3..=8;

/// All problems of an example, worded so that its writer can correct them; empty if the example is accepted.
pub(super) fn problems(example: &Example, prompts: &Prompts) -> Vec<String> {
    let mut problems = Vec::new();
    let instructions = &example.instructions;
    if !INSTRUCTIONS.contains(&instructions.len()) {
        let (least, most) = INSTRUCTIONS.into_inner();
        problems.push(format!("there are {} instructions; {least} to {most} are wanted", instructions.len()));
    }
    for (index, instruction) in instructions.iter().enumerate() {
        let mut add = |what: &str| problems.push(format!("instruction {index} (`{}`): {what}", instruction.kind));
        if let Err(error) = check_instruction(example, instruction) {
            add(&error.to_string());
        } else {
            match instruction.text.as_deref().map(|text| (text.trim().is_empty(), example.places(text))) {
                None | Some((true, _)) => add("its `text` is missing"),
                Some((_, 1)) => {}
                Some((_, places)) => {
                    add(&format!("its `text` stands in {places} places; quote more of it, so that it stands in one"));
                }
            }
        }
        let says = |other: &Instruction| other.kind == instruction.kind && other.kwargs == instruction.kwargs;
        if instruction.kind != RUBRIC && instructions[..index].iter().any(says) {
            add("another instruction says the same");
        }
    }
    if !problems.is_empty() {
        return problems;
    }
    if let Err(error) = check(example) {
        return vec![error.to_string()];
    }
    for (index, instruction) in instructions.iter().enumerate() {
        let place = |text: &Option<String>| text.as_ref().and_then(|text| example.locate(text));
        let Some((message, range)) = place(&instruction.text) else { continue };
        let shares = |(other, there): &(usize, std::ops::Range<usize>)| {
            *other == message && there.start < range.end && range.start < there.end
        };
        if (0..index).any(|other| place(&instructions[other].text).is_some_and(|other| shares(&other))) {
            problems.push(format!(
                "instruction {index} (`{}`): its `text` overlaps that of another instruction; quote each by itself",
                instruction.kind
            ));
        }
    }
    if let Some((_, share)) = prompts.nearest(example).filter(|(_, share)| *share >= NEAR) {
        problems.push(format!(
            "the prompt is nearly one that is already there ({:.0}% of their runs of five words); write another one",
            100.0 * share
        ));
    }
    problems
}
