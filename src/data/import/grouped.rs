//! Examples about the same context as one example with several questions.

use std::collections::HashMap;

use super::super::{Example, Turns};

/// Groups examples of one user message by their context; the first of a group gives its id. Examples whose message does
/// not begin with their context stay as they are.
pub(super) fn by_context(examples: Vec<Example>) -> Vec<Example> {
    let mut groups: Vec<Vec<Example>> = Vec::new();
    let mut places: HashMap<String, usize> = HashMap::new();
    for example in examples {
        match example.context.clone().filter(|context| example.messages[0].content.starts_with(context)) {
            None => groups.push(vec![example]),
            Some(context) => {
                let place = *places.entry(context).or_insert(groups.len());
                if place == groups.len() {
                    groups.push(Vec::new());
                }
                groups[place].push(example);
            }
        }
    }
    groups.into_iter().map(group).collect()
}

fn group(mut examples: Vec<Example>) -> Example {
    if examples.len() == 1 {
        return examples.remove(0);
    }
    let mut whole = Example { instructions: Vec::new(), question: None, ..examples[0].clone() };
    let context = whole.context.clone().unwrap_or_default();
    for (number, example) in examples.into_iter().enumerate() {
        let asked = example.messages[0].content.strip_prefix(&context).unwrap_or_default();
        whole.questions.push(asked.trim_start().to_owned());
        let instructions = example.instructions.into_iter();
        whole.instructions.extend(instructions.map(|mut one| {
            one.turn = Some(Turns::one(number));
            one
        }));
    }
    whole.messages[0].content = context;
    whole
}
