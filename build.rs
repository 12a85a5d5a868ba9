//! Builds `vendor/kvtap` against the llama.cpp source inside the `llama-cpp-sys-2` crate, and records the sources and
//! settings of the binary.

use std::{env, path::PathBuf, process::Command};

fn main() {
    let llama = llama_cpp_source();
    let includes = ["include", "ggml/include", "src"].map(|dir| llama.join(dir));

    let mut kvtap = cc::Build::new();
    // The C++ code may use the same CPU features as Rust (.cargo/config.toml).
    let features = env::var("CARGO_CFG_TARGET_FEATURE").unwrap_or_default();
    for feature in features.split(',').filter(|feature| ["avx2", "fma"].contains(feature)) {
        kvtap.flag_if_supported(format!("-m{feature}"));
    }
    kvtap
        .cpp(true)
        .std("c++17")
        .files(["gather", "guard", "kvtap", "tap"].map(|name| format!("vendor/kvtap/{name}.cpp")))
        .includes(&includes)
        .warnings(false); // llama.cpp's own headers are not ours to lint
    if env::var_os("CARGO_FEATURE_RPC").is_some() {
        // The crate builds llama.cpp without its RPC backend, but ships the source.
        let rpc = llama.join("ggml/src/ggml-rpc");
        kvtap
            .files(["ggml-rpc.cpp", "transport.cpp"].map(|name| rpc.join(name)))
            .file("vendor/kvtap/rpc.cpp")
            .includes([llama.join("ggml/src"), rpc]);
    }
    kvtap.compile("kvtap");

    bindgen::Builder::default()
        .header("vendor/kvtap/kvtap.h")
        .allowlist_item("kvtap_.*")
        .blocklist_type("(llama|ggml)_.*")
        .derive_default(true)
        .raw_line(
            "use llama_cpp_sys_2::{ggml_tensor, llama_batch, llama_context, llama_context_params, llama_model, \
             llama_model_params, llama_sampler, llama_vocab};",
        )
        .generate()
        .expect("bindgen failed on vendor/kvtap/kvtap.h; is libclang installed? scripts/setup.sh installs it")
        .write_to_file(PathBuf::from(env::var_os("OUT_DIR").unwrap()).join("kvtap.rs"))
        .expect("OUT_DIR is writable");

    // tests/sanitized.rs builds the same files with sanitizers.
    println!("cargo:rustc-env=KVLLAMA_LLAMA_SOURCE={}", llama.display());
    println!("cargo:rustc-env=KVLLAMA_LLAMA_LIBRARIES={}/lib", env::var("DEP_LLAMA_ROOT").unwrap_or_default());
    println!("cargo:rustc-env=KVLLAMA_GIT_COMMIT={}", git_commit());
    println!("cargo:rerun-if-changed=vendor/kvtap");
    // A manifest must not claim a clean commit when the sources differ from it.
    for path in ["src", "build.rs", "Cargo.toml", "Cargo.lock", "data", "models/default.gguf"] {
        println!("cargo:rerun-if-changed={path}");
    }
    if let Some(git) = git(&["rev-parse", "--git-dir"]) {
        for file in ["HEAD", "index", "logs/HEAD"].map(|file| format!("{git}/{file}")) {
            if std::path::Path::new(&file).exists() {
                println!("cargo:rerun-if-changed={file}");
            }
        }
    }
}

/// The llama-cpp-sys-2 crate exports no include path, but cargo knows the place of its manifest.
fn llama_cpp_source() -> PathBuf {
    let metadata = cargo_metadata::MetadataCommand::new()
        .other_options(["--locked".to_owned(), "--filter-platform".to_owned(), env::var("TARGET").unwrap()])
        .exec()
        .expect("cargo metadata");
    let package = metadata
        .packages
        .iter()
        .find(|package| package.name.as_str() == "llama-cpp-sys-2")
        .expect("llama-cpp-sys-2 is a dependency");
    package.manifest_path.with_file_name("llama.cpp").into_std_path_buf()
}

/// The git commit, with `-dirty` if the tree differs; "unknown" outside a git checkout.
fn git_commit() -> String {
    git(&["describe", "--always", "--dirty", "--abbrev=12"]).unwrap_or_else(|| "unknown".to_owned())
}

/// The output of a git command; `None` outside a checkout.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}
