//! Bad input ends in one clear sentence and exit code 2, never in a panic or an abort.

mod common;

use std::fs;
use std::path::Path;

use common::{kvllama, tiny_model};

#[test]
fn every_mistake_gets_a_sentence_that_names_the_mend() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str, content: &[u8]| {
        let path = directory.path().join(name);
        fs::write(&path, content).unwrap();
        path.display().to_string()
    };
    let tiny = tiny_model().display().to_string();
    let no_gguf = path("a.gguf", b"GG");
    let cut = path("cut.gguf", &fs::read(tiny_model()).unwrap()[..700_000]);
    let renamed = |from: &str, to: &str| {
        let mut bytes = fs::read(tiny_model()).unwrap();
        let at = bytes.windows(from.len()).position(|window| window == from.as_bytes()).expect("in the metadata");
        bytes[at..at + from.len()].copy_from_slice(to.as_bytes());
        path(&format!("{to}.gguf"), &bytes)
    };
    let bare = renamed("tokenizer.chat_template", "tokenizer.chat_templatX");
    let unknown = renamed("gemma3", "gemmaX");
    let mamba = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/mamba.gguf").display().to_string();
    let data = path("bad.jsonl", b"{\"id\":\"a\"}\n");
    let huge = "owl ".repeat(1_000_000);
    let huge = format!(
        "{{\"id\":\"a\",\"messages\":[{{\"role\":\"user\",\"content\":\"{huge}\"}}],\
         \"instructions\":[{{\"type\":\"punctuation:no_comma\"}}]}}\n"
    );
    let huge = path("huge.jsonl", huge.as_bytes());
    let config = path("c.toml", b"polcy = 'random'\n");
    let prompt = "--prompt=Tell me about the owl.";
    let long = format!("--prompt={}", "owl ".repeat(3000));
    let mut wrong = Vec::new();
    for (arguments, expected) in [
        (&["exp", "--policy=snap"][..], "there is no policy `snap`; known are none, streaming, context-shift"),
        (&["exp", "--ratio=1.5"], "`1.5` is not a ratio; write the fraction"),
        (&["exp", "--ratio=0.1..0.9"], "FROM..TO:STEP"),
        (&["exp"], "say how much to evict"),
        (&["exp", "--ratio=0.5", "--keep-last=4"], "give one of them"),
        (&["exp", "--ratio=0.5", "--protect=all"], "`all` cannot be protected; known are"),
        (&["exp", "--ratio=0.5", "--data=nowhere.jsonl"], "cannot read the examples `nowhere.jsonl`"),
        (&["exp", "--ratio=0.5", "--data", &data], "line 1: not an example: missing field `messages`"),
        (&["exp", "--ratio=0.5", "--data", &huge], "has 4000000 bytes, which no context of 2048 positions can hold"),
        (&["exp", "--ratio=0.5", "--config", &config], "unknown key `polcy`, did you mean `policy`?"),
        (
            &["exp", "--ratio=0.5", "--n-predict=9999"],
            "exceeds the 2048 positions that the model was trained for; lower --n-predict, or set --ctx",
        ),
        (&["exp", "--ratio=0.5", "--shard=5/4"], "`5/4` is not a shard"),
        (&["exp", "--ratio=0.5", "--top-p=7"], "--top-p is 7; it must lie between 0 and 1"),
        (&["exp", "--ratio=0.5", "--swa-full=false", "--positions=compact"], "leave --swa-full on"),
        (&["exp", "--ratio=0.5", "--kv-type=q8_0", "--positions=compact"], "heads with a multiple of 64 dimensions"),
        (&["exp", "--ratio=0.5", "--resume"], "no run under results/ has these settings"),
        (&["probe"], "give a prompt"),
        (&["probe", "--prompt= "], "the prompt is empty"),
        (&["probe", "--tokens=2"], "at least two are needed"),
        (&["probe", "--tokens=2,99999"], "token 99999 is not in the vocabulary"),
        (&["probe", "--tokens=2,-1"], "token -1 is not in the vocabulary"),
        (&["probe", prompt, "--continue=5,x"], "`x` is not a token id"),
        (&["probe", prompt, "--evict=3..99"], "cannot evict 3..99"),
        (&["probe", prompt, "--evict=9..3"], "`9..3` is not a range"),
        (&["probe", prompt, "--ratio=0.99"], "must survive"),
        (&["probe", prompt, "--ratio=0.9", "--protect=template"], "must survive"),
        (&["probe", prompt, "--ratio=0.5", "--scope=context"], "no context span to compress"),
        (&["probe", prompt, "--ratio=0.5", "--swa-full=false", "--positions=compact"], "--swa-full is off"),
        (&["probe", prompt, "--ratio=0.5", "--kv-type=q8_0", "--flash-attn=off"], "need flash attention"),
        (&["probe", prompt, "--ratio=0.5", "--dense", "--memory=text"], "--dense copies positions"),
        (&["probe", prompt, "--ratio=0.5", "--scores=s.json"], "has no scores"),
        (&["probe", &long, "--ctx=256"], "raise it or lower --n-predict"),
        (&["probe", prompt, "--model=nothing.gguf"], "nothing.gguf"),
        (&["probe", prompt, "--model", &no_gguf], "is not a GGUF file"),
        (&["probe", prompt, "--model", &cut], "cannot load the model"),
        (&["probe", prompt, "--model", &mamba], "it is a recurrent model: it has no KV cache to evict from"),
        (&["probe", prompt, "--model", &unknown], "unknown model architecture: 'gemmaX'"),
        (&["probe", prompt, "--model", &bare], "carries no chat template"),
        (
            &["exp", "--ratio=0.5", "--model", &bare],
            "take --chat-template raw (the text as it is); for one that was tuned",
        ),
        (&["exp", "--ratio=0.5", "--memory-limit=1MiB"], "one condition would take"),
        (&["probe", prompt, "--model", &tiny, "--chat-template=none.jinja"], "cannot read the chat template"),
        (&["exp", "--ratio=0.5", "--chat-template=lama3"], "give a Jinja file or one of chatml, gemma, llama3, raw"),
        (&["probe", prompt, "--raw", "--chat-template=gemma"], "cannot be used with"),
    ] {
        let output = kvllama(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let clear = output.status.code() == Some(2) && said.starts_with("error: ") && output.stdout.is_empty();
        if !clear || !said.contains(expected) {
            wrong.push(format!("{arguments:?}: {}: {said}", output.status));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn policies_written_wrongly_are_refused_in_one_sentence() {
    let deep = format!("{}snapkv", "sinks+".repeat(2_000));
    for policy in [
        "",
        " ",
        "+",
        "+snapkv",
        "snapkv+",
        "sinks+",
        "sinks++snapkv",
        "snapkv+sinks",
        "sinks+sinks+snapkv",
        &deep,
        "adakv",
        "adakv+none",
        "adakv+random",
        "adakv+snapkv",
        "pyramidkv+random",
        "pyramidkv+streaming",
        "chunkkv+streaming",
        "chunkkv+snapkv:chunk=0",
        "chunkkv+snapkv:chunk=-3",
        "chunkkv+snapkv:chunk=99999999999999999999999",
        "chunkkv+snapkv:chunk=2.5",
        "chunkkv+snapkv:chunk",
        "adakv+snapkv:safeguard=101",
        "adakv+snapkv:chunk=3",
        "snapkv:",
        "snapkv:=",
        "snapkv:window=",
        "snapkv:window==3",
        "snapkv::window=3",
        "snapkv:window=3;kernel=5",
        "snapkv:kernel=nan",
        "lagkv:sinks=-1",
        "snapkv:maxpool=2",
        "h2o:recent=101",
        "h2o:sums=yes",
        "context-shift:keep=-1",
        "context-shift:discard=1e3",
        "context-shift:sinks=4",
        "sinks+context-shift",
        "exec",
        "exec:",
        "exec::window=3",
        "exec:\u{1}.py",
        "exec:/",
        "exec:./no/such/program.py:window=3",
        "exec:Cargo.toml:timeout=0",
        "exec:Cargo.toml",
        "scores:",
        "scores:no-such-file.jsonl",
        "scores:Cargo.toml",
        "scores:Cargo.toml:window=3",
        "own:",
        "own:../x",
        "own:peaks",
        "adakv+own:peaks",
        "SNAPKV",
        "snäpkv:window=\u{663}",
        "../snapkv",
    ] {
        let output = kvllama(["probe", "--prompt=hi", "--ratio=0.5", "--policy", policy]).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        let clear = output.status.code() == Some(2) && said.starts_with("error: ") && output.stdout.is_empty();
        assert!(clear && said.lines().count() == 1, "{policy:.80}: {}: {said:.400}", output.status);
    }
}

#[test]
fn no_broken_gguf_crashes_the_process() {
    let whole = fs::read(tiny_model()).unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("broken.gguf");
    let mut state = 1u64;
    let mut draw = |bound: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % bound
    };
    for _ in 0..60 {
        let mut broken = whole.clone();
        if draw(5) == 0 {
            broken.truncate(draw(whole.len()));
        }
        for _ in 0..=draw(4) {
            // The header and the metadata, where a flipped byte means something.
            let at = 4 + draw(16_000);
            if at < broken.len() {
                broken[at] = [0, 1, 128, 255][draw(4)];
            }
        }
        fs::write(&path, &broken).unwrap();
        let output = kvllama(["probe", "--tokens=2,17,20,30", "--n-predict=2", "--model", path.to_str().unwrap()])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(matches!(output.status.code(), Some(0..=2)), "{:?}: {said}", output.status);
        assert!(!said.contains("panicked") && !said.contains("gave up"), "{said}");
    }
}
