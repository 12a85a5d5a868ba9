//! Language detection: langdetect 1.0.9, with its random walk seeded so that a verdict is one.

use std::sync::LazyLock;

use langdetect::{Compat, DetectorFactory, Seed};

static LANGUAGES: LazyLock<DetectorFactory> = LazyLock::new(|| {
    // Python 3.11, where the verdicts that IFEval publishes were reproduced.
    let mut factory = DetectorFactory::new(Compat::python(11));
    factory.load_builtin(&DetectorFactory::builtin_files()).expect("the profiles that langdetect ships");
    factory.seed = Seed::Int(0);
    factory
});

/// `langdetect.detect`: a code such as `en` or `zh-cn`; `None` where the text shows no language at all.
pub fn detect(text: &str) -> Option<String> {
    LANGUAGES.detect(text).ok()
}

/// Whether langdetect can tell the language of this code.
pub fn is_known(code: &str) -> bool {
    LANGUAGES.langlist().iter().any(|language| language == code)
}
