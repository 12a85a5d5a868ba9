//! `forget:instruction` and `forget:filler`: evict exactly one instruction, or as many other tokens.
//!
//! Is an instruction forgotten because its own tokens are gone? With the first policy they alone are gone. The second
//! is the control: the cache loses as many positions at about the same place, and every instruction is still there.

use std::ops::Range;

use super::{Family, Policy, View};
use crate::span::{Label, Span};

/// What the policy `forget` evicts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// All tokens of one instruction.
    Instruction,
    /// As many tokens of messages that belong to no instruction, not to the question, and not to the words that a rule
    /// demands.
    Filler,
}

/// Evicts the positions in [`View::target`] and nothing else, whatever the budget.
pub struct Forget(Target);

/// The name and summary of `forget:instruction`.
pub(super) static INSTRUCTION: Family = Family {
    name: "forget:instruction",
    title: "Instruction forgotten",
    summary: "all but one instruction's tokens; a trial for each instruction; takes no budget",
    paper: None,
    parameters: &[],
    make: |_| Box::new(Forget(Target::Instruction)),
};

/// The name and summary of `forget:filler`.
pub(super) static FILLER: Family = Family {
    name: "forget:filler",
    title: "Filler forgotten",
    summary: "all but as many tokens near an instruction that belong to none: its control",
    paper: None,
    parameters: &[],
    make: |_| Box::new(Forget(Target::Filler)),
};

impl Policy for Forget {
    fn target(&self) -> Option<Target> {
        Some(self.0)
    }

    fn reserve(&self, view: &View, protected: &mut [bool]) -> bool {
        let candidates = view.candidates.clone();
        candidates.filter(|position| !view.target.contains(position)).for_each(|position| protected[position] = true);
        true
    }

    fn choose(&self, view: &View, n_evict: usize) -> Vec<usize> {
        view.evictable().take(n_evict).collect()
    }
}

impl Target {
    /// The positions to evict of `len` cached ones, for instruction number `instruction`; `None` if its text was not
    /// found in the prompt, or if there is not enough filler. `demanded` are further ranges that are no filler.
    ///
    /// Filler is the run of positions that begins closest to the instruction's own beginning, and where no run is long
    /// enough, the positions closest to its middle.
    pub fn positions(
        self,
        spans: &[Span],
        len: usize,
        instruction: usize,
        demanded: &[Range<usize>],
    ) -> Option<Vec<usize>> {
        let covered = |labels: &dyn Fn(Label) -> bool| {
            // The last cached position always survives.
            let mut mask = vec![false; len];
            for span in spans.iter().filter(|span| labels(span.label)) {
                mask[span.start.min(len)..span.end.min(len)].fill(true);
            }
            mask[..len.saturating_sub(1)].to_vec()
        };
        let own = covered(&|label| label == Label::Instruction(instruction));
        let own: Vec<usize> = (0..own.len()).filter(|&at| own[at]).collect();
        let (&first, &last) = (own.first()?, own.last()?);
        if self == Target::Instruction {
            return Some(own);
        }
        let messages = covered(&|label| matches!(label, Label::System | Label::User | Label::Assistant));
        let taken = covered(&|label| matches!(label, Label::Instruction(_) | Label::Question));
        let demanded = |at: usize| demanded.iter().any(|range| range.contains(&at));
        let free: Vec<usize> = (0..messages.len()).filter(|&at| messages[at] && !taken[at] && !demanded(at)).collect();
        let runs = free.windows(own.len()).filter(|run| run[run.len() - 1] - run[0] + 1 == run.len());
        if let Some(run) = runs.min_by_key(|run| run[0].abs_diff(first)) {
            return Some(run.to_vec());
        }
        let mut closest = free;
        closest.sort_by_key(|&at| (2 * at).abs_diff(first + last));
        (closest.len() >= own.len()).then(|| closest[..own.len()].to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(instructions: &[(usize, usize)], question: (usize, usize)) -> Vec<Span> {
        let mut spans = vec![
            Span { label: Label::Bos, start: 0, end: 1 },
            Span { label: Label::Template, start: 1, end: 4 },
            Span { label: Label::User, start: 4, end: 30 },
            Span { label: Label::Question, start: question.0, end: question.1 },
        ];
        for (index, &(start, end)) in instructions.iter().enumerate() {
            spans.push(Span { label: Label::Instruction(index), start, end });
        }
        spans
    }

    #[test]
    fn filler_is_as_long_as_the_instruction_and_as_close_as_it_can_be() {
        let spans = spans(&[(10, 14), (20, 23)], (26, 30));
        let of = |target: Target, instruction| target.positions(&spans, 32, instruction, &[]);
        assert_eq!(of(Target::Instruction, 0), Some(vec![10, 11, 12, 13]));
        assert_eq!(of(Target::Filler, 0), Some(vec![6, 7, 8, 9]), "14..18 begins as close; the earlier one counts");
        assert_eq!(of(Target::Filler, 1), Some(vec![17, 18, 19]));
        let demanded = Target::Filler.positions(&spans, 32, 0, std::slice::from_ref(&(6..7)));
        assert_eq!(demanded, Some(vec![14, 15, 16, 17]), "a demanded word is no filler");
        assert_eq!(of(Target::Instruction, 2), None, "its text is not known");
    }

    #[test]
    fn filler_in_pieces_or_too_little_of_it() {
        let of = |instructions: &[(usize, usize)]| Target::Filler.positions(&spans(instructions, (29, 30)), 32, 0, &[]);
        assert_eq!(of(&[(6, 10), (13, 28)]).unwrap(), [5, 10, 4, 11], "no run of four");
        assert_eq!(of(&[(6, 16), (16, 28)]), None);
        let to_the_end = Target::Instruction.positions(&spans(&[(28, 30)], (4, 5)), 30, 0, &[]);
        assert_eq!(to_the_end, Some(vec![28]), "the last cached position survives");
    }
}
