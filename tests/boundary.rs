//! No public function of `llama` ends the process or reads out of bounds, whatever it is called with.

#![allow(clippy::single_range_in_vec_init, reason = "one range is what is meant")]

mod common;

use std::sync::Arc;

use kvllama::evict::{HeadKeeps, KeepSet, Layers, Needs};
use kvllama::llama::{Context, ContextSettings, FlashAttn, Grammar, LoadSettings, Model, Prompt, Slot};

fn model() -> Arc<Model> {
    Model::from_file(&common::tiny_model(), &LoadSettings::default(), None).unwrap()
}

fn context(model: &Arc<Model>, change: impl FnOnce(&mut ContextSettings)) -> kvllama::Result<Context> {
    let mut settings = ContextSettings {
        n_ctx: 64,
        n_batch: 32,
        n_seq: 3,
        flash_attn: FlashAttn::Off,
        tap: true,
        ..Default::default()
    };
    change(&mut settings);
    Context::new(model, settings)
}

/// Eight positions in sequence 0.
fn filled(model: &Arc<Model>) -> Context {
    let mut context = context(model, |_| ()).unwrap();
    context.read(0, &[1; 8], 0, true).unwrap();
    context
}

const HOSTILE_SEQUENCES: [i32; 5] = [-1, 3, 256, i32::MAX, i32::MIN];

#[test]
fn contexts_that_cannot_be_are_refused() {
    let model = model();
    assert!(context(&model, |settings| settings.n_ctx = 0).is_err());
    assert!(context(&model, |settings| settings.n_batch = 0).is_err());
    assert!(context(&model, |settings| settings.n_seq = 257).is_err());
    assert!(context(&model, |settings| settings.threads = 100_000).is_err());
    assert!(context(&model, |settings| settings.threads = 0).is_err());
    assert!(context(&model, |settings| settings.n_batch = u32::MAX).is_ok());
}

#[test]
fn sequences_that_are_not_there_are_errors_or_empty() {
    let model = model();
    let mut context = filled(&model);
    for seq in HOSTILE_SEQUENCES {
        assert_eq!(context.next_pos(seq), 0);
        assert_eq!(context.cells(seq), None);
        context.forget_sequence(seq);
        assert!(context.read(seq, &[1], 0, false).is_err());
        assert!(context.fork(0, seq).is_err() && context.fork(seq, 1).is_err());
        assert!(context.evict(seq, &[0..1], Layers::All).is_err());
        assert!(context.compact(seq, &[]).is_err());
        let mut lanes = self::context(&model, |settings| settings.streams = true).unwrap();
        assert!(context.gather(seq, &[0..4], false, &mut lanes, 0).is_err());
        assert!(context.gather(0, &[0..4], false, &mut lanes, seq).is_err());
        assert!(context.truncate(seq, 0).is_err());
        assert!(context.observe(seq, &Needs::keys()).is_err());
        assert!(context.hide(seq, &HeadKeeps { layers: Vec::new() }).is_err());
        assert!(context.decode(&[Slot { token: 1, pos: 0, seq, logits: true }]).is_err());
    }
    assert!(context.fork(0, 0).is_err());
    assert_eq!(context.next_pos(0), 8, "nothing happened to the one that is");
}

#[test]
fn what_cannot_be_gathered_is_an_error() {
    let model = model();
    let context = filled(&model);
    let lanes = |change: fn(&mut ContextSettings)| self::context(&model, change).unwrap();
    for hostile in [vec![], vec![9..20], vec![usize::MAX - 1..usize::MAX], vec![std::ops::Range { start: 5, end: 3 }]] {
        assert!(context.gather(0, &hostile, false, &mut lanes(|settings| settings.streams = true), 0).is_err());
    }
    let mut another = lanes(|settings| settings.flash_attn = FlashAttn::On);
    assert!(context.gather(0, &[0..4], false, &mut another, 0).is_err(), "values lie otherwise");
    let mut dense = lanes(|settings| settings.streams = true);
    assert!(dense.gather(0, &[0..4], false, &mut lanes(|_| ()), 0).is_err(), "from streams");
    context.gather(0, &[0..2, 7..99], false, &mut dense, 2).unwrap();
    assert_eq!((dense.next_pos(2), dense.cells(2).unwrap().sequence), (8, 3));
}

#[test]
fn batches_that_cannot_be_are_errors() {
    let model = model();
    let mut context = filled(&model);
    let slot = Slot { token: 1, pos: 8, seq: 0, logits: true };
    assert!(context.decode(&[]).is_ok());
    assert!(context.decode(&[slot; 33]).is_err(), "longer than a batch");
    for token in [-1, i32::MIN, model.n_vocab() as i32, i32::MAX] {
        assert!(context.decode(&[Slot { token, ..slot }]).is_err());
        assert!(model.piece(token).is_empty() && model.piece_with_control(token).is_empty());
        assert!(!model.is_end_of_generation(token));
        assert!(Prompt::from_tokens(&model, vec![1, token]).is_err());
    }
    for pos in [-1, i32::MIN, 0, 100, i32::MAX] {
        assert!(context.decode(&[Slot { pos, ..slot }]).is_err());
    }
    assert!(context.read(0, &[1; 400], 8, true).is_err(), "larger than the cache");
    assert!(context.read(0, &[1], 3, true).is_err() && context.read(0, &[1], usize::MAX, true).is_err());
    for index in [1, 5, usize::MAX] {
        assert!(context.logits(index).is_err());
    }
    assert!(context.decode(&[slot]).is_ok(), "it still works");
    assert_eq!(context.logits(0).unwrap().len(), model.n_vocab());
}

#[test]
fn ranges_that_cannot_be_are_errors() {
    let model = model();
    let mut context = filled(&model);
    #[allow(clippy::reversed_empty_ranges, reason = "that is the point")]
    for range in [0..8, 7..9, 5..3, usize::MAX..usize::MAX, 0..usize::MAX] {
        assert!(context.evict(0, std::slice::from_ref(&range), Layers::All).is_err(), "{range:?}");
    }
    for kept in [vec![3..5, 0..2], vec![0..2, 1..4], vec![0..9], vec![4..4], vec![0..usize::MAX]] {
        assert!(context.compact(0, &kept).is_err(), "{kept:?}");
    }
    assert_eq!(context.truncate(0, usize::MAX).unwrap(), 8);
    assert!(context.evict(0, &[1..3], Layers::All).is_ok());
}

#[test]
fn a_tap_is_not_believed_after_a_failed_decode_or_other_needs() {
    let model = model();
    let mut context = filled(&model);
    assert!(context.seen(0, &Needs::keys(), |_| ()).is_err(), "nothing is observed");
    assert!(context.retain_seen(0, &[0], &[0], &[]).is_err());
    context.look_away();
    let backwards = Needs { attention_from: vec![5, 3], ..Needs::default() };
    assert!(context.observe(1, &backwards).is_err());
    assert!(context.observe(1, &Needs { attention_from: vec![-1], ..Needs::default() }).is_err());

    context.observe(1, &Needs { keys: true, ..Needs::attention(0) }).unwrap();
    context.read(1, &[1; 8], 0, false).unwrap();
    let more = Needs { attention_from: vec![0, 1, 2], ..Needs::keys() };
    assert!(context.seen(1, &more, |_| ()).is_err(), "sums that were not made");
    // Queries and values that were not requested are absent.
    let other = Needs { values: true, queries_from: Some(0), ..Needs::attention(0) };
    context
        .seen(1, &other, |layers| {
            assert!(layers.iter().all(|layer| layer.values.is_empty() && layer.queries.is_none()))
        })
        .unwrap();
    assert!(
        context.retain_seen(1, &[3, 3], &[3, 3], &[0]).is_err() && context.retain_seen(1, &[1, 5], &[1], &[0]).is_err()
    );
    context.retain_seen(1, &[1, 4, 1000], &[0, 1, 2], &[0]).unwrap();
    context
        .seen(1, &Needs::attention(0), |layers| assert!(layers.iter().all(|layer| layer.positions == [0, 1])))
        .unwrap();
    assert!(context.decode(&[Slot { token: 1, pos: 50, seq: 1, logits: false }]).is_err());

    context.forget_sequence(1);
    context.observe(1, &Needs::keys()).unwrap();
    let full = (0..40).map(|_| context.read(1, &[1; 8], context.next_pos(1), false)).find(Result::is_err);
    assert!(full.is_some(), "the cache is full at last");
    let _ = context.seen(1, &Needs::keys(), |layers| {
        layers.iter().for_each(|layer| assert_eq!(layer.keys.len(), layer.len * layer.kv_heads * layer.d_k));
    });
}

#[test]
fn heads_that_are_not_there_cannot_be_hidden_from() {
    let model = model();
    let mut context = filled(&model);
    let keeps = |layer, heads| HeadKeeps { layers: vec![(layer, vec![KeepSet::all(8); heads])] };
    assert!(context.hide(0, &keeps(999, 1)).is_err() && context.hide(0, &keeps(0, 99)).is_err());
    let layer = model.kv_layers()[0];
    let oversized = HeadKeeps { layers: vec![(layer.index, vec![KeepSet::all(100_000); layer.heads])] };
    context.hide(0, &oversized).unwrap();
    context.read(0, &[1], 8, true).unwrap();
}

#[test]
fn a_grammar_takes_the_logits_of_its_vocabulary_alone() {
    let model = model();
    let mut grammar = Grammar::new(&model, "root ::= \"a\"").unwrap();
    assert!(grammar.next(&[]).is_err() && grammar.next(&vec![0.0; model.n_vocab() + 1]).is_err());
    assert!(Grammar::new(&model, "root ::= (").is_err());
}
