//! Language detection: langdetect 1.0.9, with a fixed random seed so that a text always gets the same verdict.

use std::sync::LazyLock;

use langdetect::{Compat, DetectorFactory, Seed};

static LANGUAGES: LazyLock<DetectorFactory> = LazyLock::new(|| {
    // Python 3.11, with which the published verdicts of IFEval were reproduced.
    let mut factory = DetectorFactory::new(Compat::python(11));
    factory.load_builtin(&DetectorFactory::builtin_files()).expect("the profiles that langdetect ships");
    factory.seed = Seed::Int(0);
    factory
});

/// `langdetect.detect`: a code such as `en` or `zh-cn`; `None` if it finds no language in the text.
pub fn detect(text: &str) -> Option<String> {
    LANGUAGES.detect(text).ok()
}

/// Whether langdetect knows a language with this code.
pub fn is_known(code: &str) -> bool {
    LANGUAGES.langlist().iter().any(|language| language == code)
}
