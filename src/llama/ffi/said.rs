//! What llama.cpp says: its log, the cause of an error, and its last words when it gives up.

use std::ffi::{CStr, CString, c_char, c_void};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, Once};

use llama_cpp_sys_2 as sys;

use super::kvtap;
use crate::Error;
use crate::alloc::LESS_MEMORY;

/// Starts llama.cpp once: its logs go to `tracing`, and when it gives up that becomes a sentence and an exit code.
pub(super) fn start() {
    static STARTED: Once = Once::new();
    STARTED.call_once(|| {
        let no_memory = format!("error: out of memory: llama.cpp got none; {LESS_MEMORY}\n");
        let no_memory = CString::new(no_memory).expect("it holds no NUL").into_raw(); // needed until the process ends
        // SAFETY: called once, before any other call into llama.cpp; `log` and `gave_up` never unwind.
        unsafe {
            kvtap::kvtap_on_no_memory(no_memory);
            sys::llama_log_set(Some(log), std::ptr::null_mut());
            sys::llama_backend_init();
            sys::ggml_set_abort_callback(Some(gave_up));
        }
    });
}

/// The first line that llama.cpp logged at level ERROR since the last [`take_error`]. It names the cause for the
/// message to the user; later lines only say that something failed.
static FIRST_ERROR: Mutex<String> = Mutex::new(String::new());
static PARTIAL_LINE: Mutex<(sys::ggml_log_level, String)> = Mutex::new((sys::GGML_LOG_LEVEL_INFO, String::new()));

/// llama.cpp's log callback. Lines may come in pieces; complete lines go to `tracing`.
unsafe extern "C" fn log(level: sys::ggml_log_level, text: *const c_char, _: *mut c_void) {
    // SAFETY: llama.cpp passes a NUL-terminated string that lives for the call.
    let text = unsafe { CStr::from_ptr(text) }.to_string_lossy();
    let Ok(mut partial) = PARTIAL_LINE.lock() else { return };
    if level != sys::GGML_LOG_LEVEL_CONT {
        partial.0 = level;
    }
    partial.1.push_str(&text);
    if !partial.1.ends_with('\n') {
        return;
    }
    let (level, line) = (partial.0, std::mem::take(&mut partial.1));
    drop(partial);
    let line = line.trim_end();
    match level {
        sys::GGML_LOG_LEVEL_ERROR => {
            tracing::debug!(target: "llama.cpp", "{line}");
            if let Ok(mut first) = FIRST_ERROR.lock()
                && first.is_empty()
            {
                line.clone_into(&mut first);
            }
        }
        sys::GGML_LOG_LEVEL_WARN => tracing::debug!(target: "llama.cpp", "{line}"),
        _ => tracing::trace!(target: "llama.cpp", "{line}"),
    }
}

/// Takes the first error llama.cpp logged, without its function prefix.
pub(in crate::llama) fn take_error() -> String {
    let line = FIRST_ERROR.lock().map(|mut first| std::mem::take(&mut *first)).unwrap_or_default();
    match line.split_once(": ") {
        Some((prefix, rest)) if !prefix.contains(' ') => rest.to_owned(),
        _ => line,
    }
}

/// The error after a failed call: a lack of memory if llama.cpp said so, else `other` of what it said.
pub(in crate::llama) fn error(other: impl FnOnce(String) -> Error) -> Error {
    let said = take_error();
    if lacks_memory(&said) { Error::failed(out_of_memory(&said)) } else { other(said) }
}

fn lacks_memory(said: &str) -> bool {
    const SIGNS: [&str; 6] = [
        "out of memory",
        "bad_alloc",
        "insufficient memory",
        "failed to allocate",
        "unable to allocate",
        "mem_buffer != NULL",
    ];
    SIGNS.iter().any(|sign| said.contains(sign))
}

fn out_of_memory(said: &str) -> String {
    format!("out of memory: llama.cpp says \"{said}\"; {LESS_MEMORY}")
}

/// The model that was loaded last, and whether it has computed logits since.
static MODEL: Mutex<String> = Mutex::new(String::new());
static WORKS: AtomicBool = AtomicBool::new(false);

pub(super) fn loading(model: &str) {
    WORKS.store(false, Ordering::Relaxed);
    take_error(); // of an earlier model
    if let Ok(mut name) = MODEL.lock() {
        model.clone_into(&mut name);
    }
}

pub(super) fn model_works() {
    WORKS.store(true, Ordering::Relaxed);
}

/// llama.cpp aborts the process when one of its invariants breaks. This says so in a sentence instead of dumping core: a
/// model that has computed nothing yet is at fault for it (exit code 2), unless memory is lacking (exit code 1).
unsafe extern "C" fn gave_up(message: *const c_char) {
    // SAFETY: ggml passes a NUL-terminated string that lives for the call.
    let message = unsafe { CStr::from_ptr(message) }.to_string_lossy();
    let logged = take_error(); // it has the size
    let (code, sentence) = if lacks_memory(&message) || lacks_memory(&logged) {
        (1, out_of_memory(if logged.is_empty() { without_place(&message) } else { &logged }))
    } else if message.contains("Remote RPC server") {
        let mend = "start it again, then run the same command again: finished rows are safe";
        (1, format!("a worker ended or answered nonsense; {mend}"))
    } else if WORKS.load(Ordering::Relaxed) {
        (1, format!("llama.cpp gave up: {}", message.trim_end()))
    } else {
        let model = MODEL.lock().map(|name| name.clone()).unwrap_or_default();
        (
            2,
            format!(
                "cannot use the model {model}: llama.cpp finds it inconsistent ({}); the file is broken, or newer than \
                 this build",
                without_place(&message)
            ),
        )
    };
    eprintln!("error: {sentence}");
    // SAFETY: ends the process without running destructors, which other threads may still need.
    unsafe { kvtap::kvtap_exit(code) }
}

/// A message of ggml without its place in the sources: `ggml.c:12: GGML_ASSERT(x) failed` is `(x) failed`.
fn without_place(message: &str) -> &str {
    let assertion = message.split_once("GGML_ASSERT").map(|(_, rest)| rest);
    let other = || message.split_once(".cpp:").and_then(|(_, rest)| rest.split_once(": ")).map(|(_, rest)| rest);
    assertion.or_else(other).unwrap_or(message).trim()
}
