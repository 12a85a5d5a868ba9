use proptest::prelude::*;

use super::*;

fn words(example: &Example) -> Result<usize> {
    Ok(example.messages[0].content.split_whitespace().count())
}

fn recall(kinds: &[Kind], facts: usize, depths: &str, style: Style) -> Recall {
    let (lengths, kinds, depths) = (vec![300, 500], kinds.to_vec(), depths.parse().unwrap());
    Recall { lengths, kinds, facts, questions: 1, depths, style, seed: 1 }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn each_fact_stands_once_and_its_answer_nowhere_else(
        kind in 0..5usize, facts in 1..10usize, completion: bool, uniform: bool, seed: u64,
    ) {
        let kind = Kind::ALL[kind];
        let style = if completion { Style::Completion } else { Style::Chat };
        let recall = Recall { seed, ..recall(&[kind], facts, if uniform { "uniform" } else { "0..1:0.5" }, style) };
        for (index, example) in generate(&recall, 3, &words).unwrap().iter().enumerate() {
            prop_assert_eq!(words(example).unwrap(), [300, 500][index % 2], "words are as fine as their measure");
            let content = &example.messages[0].content;
            let asked = match kind { Kind::Single | Kind::MultiKey => 1, _ => facts };
            prop_assert_eq!(example.instructions.len(), asked);
            for instruction in &example.instructions {
                let answer = instruction.kwargs["references"][0].as_str().unwrap();
                let text = instruction.text.as_ref().unwrap();
                prop_assert!(text.contains(answer));
                prop_assert_eq!(example.places(text), 1);
                // The next variable of a chain contains the name of the one before.
                let most = if kind == Kind::Variables { 2 } else { 1 };
                prop_assert!(content.matches(answer).count() <= most, "{} in {}", answer, content);
                // Scored by its own rule: the sentence itself is a right answer, the question is not.
                let scored = |text: &str| crate::score::check(&instruction.kind, &instruction.kwargs, text).unwrap().score;
                prop_assert_eq!((scored(text), scored(example.question.as_ref().unwrap())), (1.0, 0.0));
            }
            let (context, question) = (example.context.as_ref().unwrap(), example.question.as_ref().unwrap());
            prop_assert!(content.ends_with(question) && example.places(question) == 1);
            prop_assert!(content.find(context).unwrap() + context.len() < content.len() - question.len());
        }
    }
}

#[test]
fn facts_stand_at_their_depths_and_chains_in_their_order() {
    let listed = recall(&[Kind::Single], 1, "0..1:0.25", Style::Chat);
    for (index, example) in generate(&listed, 10, &words).unwrap().iter().enumerate() {
        let context = example.context.as_ref().unwrap();
        let (before, after) = context.split_once(example.instructions[0].text.as_ref().unwrap()).unwrap();
        let count = |text: &str| text.split_whitespace().count() as f64;
        let depth = count(before) / (count(before) + count(after));
        assert!((depth - 0.25 * (index % 5) as f64).abs() < 0.12, "{depth} in {index}: between sentences");
    }
    let chains = recall(&[Kind::Variables], 5, "uniform", Style::Chat);
    for example in generate(&chains, 5, &words).unwrap() {
        let at = example.instructions.iter().map(|one| example.locate(one.text.as_ref().unwrap()).unwrap().1.start);
        assert!(at.is_sorted());
    }
}

#[test]
fn the_same_seed_gives_the_same_examples_and_few_are_the_first_of_many() {
    let recall = recall(&Kind::ALL, 4, "uniform", Style::Completion);
    let many = generate(&recall, 12, &words).unwrap();
    assert_eq!(generate(&recall, 5, &words).unwrap(), many[..5]);
    assert_ne!(generate(&Recall { seed: 2, ..recall }, 5, &words).unwrap(), many[..5]);
}

#[test]
fn what_cannot_be_made_is_refused() {
    let long = Recall { lengths: vec![20], ..recall(&[Kind::MultiKey], 9, "uniform", Style::Chat) };
    let error = generate(&long, 1, &words).unwrap_err().to_string();
    assert!(error.contains("`recall-001-multikey` take") && error.contains("prompt is to have 20"), "{error}");
    for bad in ["", "1.5", "0..1", "0..2:1", "1..0:0.1", "0..1:0", "nan", "-0.1", "0..1:1e-9"] {
        assert!(bad.parse::<Depths>().is_err(), "{bad}");
    }
    let tenths = (0..=10).map(|tenth| (f64::from(tenth) * 0.1).min(1.0)).collect();
    assert_eq!("0..1:0.1".parse::<Depths>().unwrap(), Depths::Listed(tenths));
}

#[test]
fn several_questions_ask_for_one_fact_each_of_the_same_text() {
    let one = recall(&[Kind::MultiKey], 4, "uniform", Style::Chat);
    let several = Recall { questions: 3, ..one.clone() };
    let measure = |example: &Example| words(&example.each_asked()[0]);
    let (one, several) = (generate(&one, 2, &words).unwrap(), generate(&several, 2, &measure).unwrap());
    for (one, several) in std::iter::zip(&one, &several) {
        assert_eq!(several.asked(0).messages, one.messages, "the first question is that of the set with one");
        assert_eq!((several.context.as_ref(), several.questions.len()), (one.context.as_ref(), 3));
        for question in 0..3 {
            let (_, instruction) = several.checked_in(question).next().unwrap();
            let name = several.questions[question].trim_end_matches('?').rsplit(' ').next().unwrap();
            assert!(instruction.text.as_ref().unwrap().contains(name), "{name}");
        }
    }
}
