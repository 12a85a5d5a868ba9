# A Homebrew formula. `brew install --HEAD packaging/kvllama.rb` builds it from the repository's main branch; for a release, set `url`
# and `sha256` to those of its source archive.
class Kvllama < Formula
  desc "What a language model forgets when its KV cache is cut"
  homepage "https://github.com/OWNER/kvllama"
  license "MIT"
  head "https://github.com/OWNER/kvllama.git", branch: "main"

  depends_on "cmake" => :build
  depends_on "llvm" => :build # libclang, for bindgen
  depends_on "rust" => :build

  def install
    ENV["LIBCLANG_PATH"] = Formula["llvm"].opt_lib
    features = OS.mac? && Hardware::CPU.arm? ? ["--features", "metal"] : []
    system "cargo", "install", *std_cargo_args, *features
    generate_completions_from_executable(bin/"kvllama", "completions", shells: [:bash, :zsh, :fish])
    system bin/"kvllama", "man", "man"
    man1.install Dir["man/*.1"]
  end

  test do
    system bin/"kvllama", "exp", "--policy", "random", "--ratio", "0.5", "--limit", "2", "--out", testpath/"run"
    assert_path_exists testpath/"run/trials.csv"
  end
end
