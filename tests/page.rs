//! The page in a real browser. Needs `chromedriver` and Chromium (Debian: `apt-get install chromium-driver`); without
//! them the test passes with a message.

mod common;

use std::io::Write as _;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use common::{kvllama, run};
use serde_json::{Value, json};

/// A browser driven over the WebDriver protocol.
struct Browser {
    driver: Child,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    fn start() -> Option<Self> {
        let port = TcpListener::bind("127.0.0.1:0").ok()?.local_addr().ok()?.port();
        let driver = Command::new("chromedriver")
            .arg(format!("--port={port}"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let profile = tempfile::tempdir().expect("a directory");
        let mut browser = Browser { driver, session: format!("http://127.0.0.1:{port}"), _profile: profile };
        let ready = |browser: &Browser| ureq::get(format!("{}/status", browser.session)).call().is_ok();
        for _ in 0..100 {
            if ready(&browser) {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        let profile = format!("--user-data-dir={}", browser._profile.path().display());
        let arguments = [
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--window-size=1280,900",
            &profile,
        ];
        let wanted = json!({"goog:chromeOptions": {"args": arguments}, "goog:loggingPrefs": {"browser": "ALL"}});
        let opened = browser.call("/session", json!({"capabilities": {"alwaysMatch": wanted}}));
        browser.session = format!("{}/session/{}", browser.session, opened["sessionId"].as_str()?);
        Some(browser)
    }

    fn call(&self, path: &str, body: Value) -> Value {
        let url = format!("{}{path}", self.session);
        let mut answer = ureq::post(&url).send(body.to_string()).unwrap_or_else(|error| panic!("{path}: {error}"));
        let text = answer.body_mut().read_to_string().expect("text");
        serde_json::from_str::<Value>(&text).expect("JSON")["value"].take()
    }

    fn open(&self, page: &Path, place: &str) {
        self.visit(&format!("file://{}{place}", page.display()));
    }

    fn visit(&self, address: &str) {
        self.call("/url", json!({"url": "about:blank"}));
        self.call("/url", json!({"url": address}));
    }

    /// What a piece of JavaScript returns.
    fn ask(&self, script: &str) -> Value {
        self.call("/execute/sync", json!({"script": script, "args": []}))
    }

    fn text(&self, selector: &str) -> String {
        let found = self.ask(&format!("return document.querySelector({selector:?}).textContent"));
        found.as_str().unwrap_or_default().to_owned()
    }

    fn element(&self, selector: &str) -> String {
        let found = self.call("/element", json!({"using": "css selector", "value": selector}));
        let id = found.as_object().and_then(|object| object.values().next()).and_then(Value::as_str);
        id.unwrap_or_else(|| panic!("there is no {selector}")).to_owned()
    }

    fn click(&self, selector: &str) {
        self.call(&format!("/element/{}/click", self.element(selector)), json!({}));
    }

    /// Types into an element, as with a keyboard.
    fn press(&self, selector: &str, keys: &str) {
        self.call(&format!("/element/{}/value", self.element(selector)), json!({"text": keys}));
    }

    /// All messages of the console.
    fn complaints(&self) -> Vec<String> {
        let log = self.call("/se/log", json!({"type": "browser"}));
        log.as_array().expect("a log").iter().map(|entry| entry["message"].to_string()).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        let _ = ureq::delete(&self.session).call();
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}

fn skip() {
    let _ = std::io::stderr().write_all(b"SKIPPED: the page was not opened, because there is no chromedriver\n");
}

const DOWN: &str = "\u{e015}";

#[test]
fn the_page_sorts_filters_and_shows_the_right_example() {
    let Some(browser) = Browser::start() else { return skip() };
    let directory = tempfile::tempdir().unwrap();
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/run");
    run(0, &["report", fixture.to_str().unwrap(), "--out", directory.path().to_str().unwrap()]);
    let page = directory.path().join("report.html");
    browser.open(&page, "");

    // Sorting: a first press puts the largest first, a second the smallest, and assistive technology is told.
    let differences = "return [...document.querySelectorAll('#comparisons-table tbody tr:not([hidden])')]\
                       .map((row) => Number(row.cells[1].dataset.v))";
    let sorted = |found: &Value| -> Vec<f64> { found.as_array().unwrap().iter().filter_map(Value::as_f64).collect() };
    browser.click("#comparisons-table th:nth-child(2) button");
    let falling = sorted(&browser.ask(differences));
    assert!(falling.len() == 5 && falling.is_sorted_by(|a, b| a >= b), "{falling:?}");
    let state = "return document.querySelector('#comparisons-table th:nth-child(2)').getAttribute('aria-sort')";
    assert_eq!(browser.ask(state), "descending");
    browser.click("#comparisons-table th:nth-child(2) button");
    assert!(sorted(&browser.ask(differences)).is_sorted());
    assert_eq!(browser.ask(state), "ascending");

    // Filtering.
    browser.press("#find-comparison", "streaming");
    assert_eq!(browser.text("#comparisons-shown"), "2 of 5 shown");
    browser.click("#only-significant");
    assert_eq!(browser.text("#comparisons-shown"), "0 of 5 shown");

    // The example browser, by keyboard: the second example under the largest cost, which is chosen at first.
    assert!(browser.text("#verdict").starts_with("e1 under Random (text) at 0.5: score 0.50"));
    browser.press("#example", DOWN);
    assert!(
        browser.text("#verdict").starts_with("e2 under Random (text) at 0.5: score 0.00; under the full cache: 1.00")
    );
    browser.press("#condition", "Random at");
    assert_eq!(browser.text("#answers article:last-child h4"), "Random at 0.5");
    let hostile = "</script><script>document.title=\"owned\"</script><img src=x onerror=\"document.title='owned'\">\n\
                   <!-- & \"quotes\", commas";
    assert_eq!(browser.text("#answers article:last-child .text"), hostile);
    assert_eq!(browser.text("#answers article:first-child .text"), "answer 2 under none");
    assert_eq!(browser.ask("return document.querySelectorAll('img').length"), 0);
    let evicted = browser.ask("return [...document.querySelectorAll('#prompt del')].map((piece) => piece.textContent)");
    assert_eq!(evicted, json!(["Say", " use", " please", ". ", "mas", ". "]), "positions 1..3, 4..6 and 8..10");
    let outlined =
        browser.ask("return [...document.querySelectorAll('#prompt .instruction')].map((one) => one.textContent)");
    assert_eq!(outlined, json!(["2 · 33% use pebble please", "1 · 67%No commas"]));
    let verdicts = browser.text("#verdicts tbody");
    assert!(verdicts.contains("judge 0.90kept it") && verdicts.contains("✗ not followed"), "{verdicts}");
    assert!(verdicts.contains("✗ not followed1 comma, 0 allowed"), "{verdicts}");

    // A link to an example opens it; a failed trial says why it failed.
    let place = browser.ask("return location.hash");
    assert_eq!(place, "#example=e2&condition=random%400.5&against=none");
    browser.open(&page, "#example=e6&condition=random%400.5&against=none");
    assert_eq!(
        browser.text("#answers article:last-child .text"),
        "failed: decode failed: no slot for <b>12</b> tokens"
    );
    browser.press("#find-example", "e4");
    assert_eq!(browser.ask("return document.getElementById('example').length"), 1);
    browser.click("#next");
    assert!(browser.text("#verdict").starts_with("e4 under Random at 0.5: score 0.50"));

    // A search reads types and prompts; a filter leaves the examples where an instruction was followed before and not after.
    let found = "return [...document.getElementById('example').options].map((one) => one.textContent.split(' ')[0])";
    let search = |text: &str| {
        browser.ask("document.getElementById('find-example').value = ''");
        browser.press("#find-example", text);
        browser.ask(found)
    };
    assert_eq!(search("no_comma pebble"), json!(["e1", "e2", "e3", "e4", "e5", "e6"]));
    assert_eq!(search("nowhere"), json!([]));
    browser.open(&page, "#example=e2&condition=random%400.5&against=none");
    browser.click("#only-lost");
    assert_eq!(browser.ask(found), json!(["e1", "e2", "e4", "e5"]), "e3 keeps both, and e6 failed");

    // Words that the other answer lacks are marked, unless one does not want them.
    let marks =
        "return [...document.querySelectorAll('#answers article:first-child mark')].map((one) => one.textContent)";
    assert_eq!(browser.ask(marks), json!(["answer", "2", "under", "none"]));
    browser.click("#mark");
    assert_eq!(browser.ask(marks), json!([]));
    assert_eq!(browser.ask("return document.getElementById('link').hash"), place);

    // Every control has a name, and the console has no messages.
    let nameless = "return [...document.querySelectorAll('select, input, button, [role=region]')].filter((one) => \
                    !one.labels?.length && !one.textContent.trim() && !one.getAttribute('aria-label')).map((one) => one.id)";
    assert_eq!(browser.ask(nameless), json!([]));
    assert_ne!(browser.ask("return document.title"), "owned");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// A run of two long prompts under four conditions, with its report.
fn recall(directory: &Path) -> std::path::PathBuf {
    let out = directory.to_str().unwrap();
    let options = "exp -q --threads 1 --data recall --policy random,streaming,forget:instruction --ratio 0.75 --limit 2 --n-predict 8 \
                   --parallel 1 --fidelity --out";
    run(0, &options.split_whitespace().chain([out]).collect::<Vec<_>>());
    run(0, &["report", out]);
    directory.join("report.html")
}

#[test]
fn the_shown_command_repeats_the_trial_and_long_prompts_are_folded() {
    let Some(browser) = Browser::start() else { return skip() };
    let directory = tempfile::tempdir().unwrap();
    let page = recall(directory.path());
    for (condition, option) in [("random@0.75", "--ratio 0.75"), ("forget:instruction", "--evict ")] {
        browser.open(&page, &format!("#example=recall-001-single&against=none&condition={condition}"));
        let command = browser.text("#probe-command");
        assert!(command.contains(option) && command.contains("--data recall"), "{command}");
        let arguments = shlex::split(&command).unwrap();
        let output = kvllama(&arguments[1..]).args(["--json", "--threads", "1"]).output().unwrap();
        let repeated: Value = serde_json::from_slice(&output.stdout).expect(&command);
        assert_eq!(browser.text("#answers article:last-child .text"), repeated["text"].as_str().unwrap(), "{command}");
        assert!(browser.text("#answers article:last-child .hint").contains(" · KL "), "{command}");
    }
    browser.click("#copy-probe");
    assert!(["copied", "selected"].contains(&browser.text("#copied").as_str()));

    let overflows = "return document.documentElement.scrollWidth > document.documentElement.clientWidth";
    assert_eq!(browser.ask(overflows), false, "the long command wraps");

    // The prompt opens at its first instruction; long evicted runs are folded, and open with a click.
    let seen = browser.ask(
        "const box = document.getElementById('prompt').getBoundingClientRect(); \
         const first = document.querySelector('#prompt .instruction').getBoundingClientRect(); \
         return first.top >= box.top && first.top < box.bottom",
    );
    assert_eq!(seen, true);
    browser.open(&page, "#example=recall-001-single&against=none&condition=streaming@0.75");
    let folds = "return [...document.querySelectorAll('#prompt .fold')].map((fold) => fold.open)";
    let closed = browser.ask(folds);
    assert!(closed.as_array().is_some_and(|all| !all.is_empty() && all.iter().all(|open| open == false)), "{closed}");
    browser.click("#prompt .fold summary");
    assert_eq!(browser.ask(folds)[0], true);
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

/// Where `npm install --prefix target/axe axe-core` puts it.
const AXE: &str = "target/axe/node_modules/axe-core/axe.min.js";

#[test]
fn axe_finds_no_serious_violation() {
    let Some(browser) = Browser::start() else { return skip() };
    let Ok(axe) = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(AXE)) else {
        let _ = std::io::stderr().write_all(b"SKIPPED: axe-core is not in target/axe\n");
        return;
    };
    let violations = || {
        browser.ask(&axe);
        let found = browser.call(
            "/execute/async",
            json!({"script": format!("{axe}; const done = arguments[0]; axe.run().then((found) => done(found.violations \
                    .filter((one) => ['serious', 'critical'].includes(one.impact)) \
                    .map((one) => one.id + ': ' + one.nodes.map((node) => node.html.slice(0, 200)).join(' | '))))"),
                   "args": []}),
        );
        found.as_array().unwrap().iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let directory = tempfile::tempdir().unwrap();
    let page = recall(directory.path());
    browser.open(&page, "");
    assert_eq!(violations(), Vec::<String>::new(), "the report");
    browser.call("/window/rect", json!({"width": 390, "height": 844}));
    assert_eq!(violations(), Vec::<String>::new(), "the report on a phone");

    // The live page of the same run, which is finished and stays for a few seconds.
    let mut watch =
        kvllama(["report", "--watch", directory.path().to_str().unwrap()]).stdout(Stdio::piped()).spawn().unwrap();
    let mut said = std::io::BufRead::lines(std::io::BufReader::new(watch.stdout.take().unwrap()));
    let address = said.next().unwrap().unwrap().trim_start_matches("watch: ").to_owned();
    browser.visit(&address);
    let until = std::time::Instant::now() + Duration::from_secs(4);
    while !browser.text("#state").starts_with("Done: ") && std::time::Instant::now() < until {
        std::thread::sleep(Duration::from_millis(50));
    }
    assert!(browser.text("#state").starts_with("Done: 8 trials"), "{}", browser.text("#state"));
    let overflows = "return document.documentElement.scrollWidth > document.documentElement.clientWidth";
    assert_eq!(browser.ask(overflows), false, "the live page fits a phone");
    assert_eq!(browser.ask("return document.querySelectorAll('#conditions tr').length"), 4);
    assert_eq!(browser.ask("return document.querySelectorAll('#curves path').length"), 2);
    assert_eq!(browser.ask("return document.querySelectorAll('#last article').length"), 8);
    assert_eq!(violations(), Vec::<String>::new(), "the live page");
    assert!(watch.wait().unwrap().success());
    assert_eq!(browser.complaints(), Vec::<String>::new());
}

#[test]
fn a_chat_shows_what_is_left_of_its_system_turn() {
    let Some(browser) = Browser::start() else { return skip() };
    let directory = tempfile::tempdir().unwrap();
    let out = directory.path().join("run");
    let path = out.to_str().unwrap();
    let exp =
        ["exp", "--data=chats-demo", "--limit=1", "--policy=random", "--ratio=0.5", "--n-predict=24", "--threads=1"];
    run(0, &[&exp[..], &["--out", path]].concat());
    run(0, &["report", path]);
    // The part of the system turn that is in the cache before each answer, from the run's own files.
    let prompts = std::fs::read_to_string(out.join("prompts.jsonl")).unwrap();
    let prompt: Value = serde_json::from_str(prompts.lines().next().unwrap()).unwrap();
    let spans = prompt["spans"].as_array().unwrap();
    let system = spans.iter().find(|span| span["label"] == "system").unwrap();
    let (start, end) = (system["start"].as_u64().unwrap() as usize, system["end"].as_u64().unwrap() as usize);
    let trials = common::rows(&out, "trials.csv");
    let expected: Vec<String> = (0..prompt["turns"].as_array().unwrap().len())
        .map(|turn| {
            let of_turn = trials.iter().find(|(key, _)| key[1] == "random@0.5" && key[3] == turn.to_string());
            let evicted = kvllama::evict::parse_ranges(&of_turn.unwrap().1["evicted_ranges"]).unwrap();
            let gone = evicted.into_iter().flatten().filter(|at| (start..end).contains(at)).count();
            let kept = 1.0 - gone as f64 / (end - start) as f64;
            format!("turn {turn}{}%", (100.0 * kept).round())
        })
        .collect();
    browser.open(&out.join("report.html"), "");
    let strips = "return [...document.querySelectorAll('#strip-list button')].map((one) => one.textContent)";
    assert_eq!(browser.ask(strips), json!(expected));
    // A strip shows its turn.
    browser.click("#strip-list button:nth-child(4)");
    assert_eq!(browser.ask("return document.getElementById('turn').value"), "3");
    let pressed =
        "return [...document.querySelectorAll('#strip-list button')].map((one) => one.getAttribute('aria-pressed'))";
    assert_eq!(browser.ask(pressed)[3], "true");
    assert_eq!(browser.complaints(), Vec::<String>::new());
}
