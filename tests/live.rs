//! `report --watch` beside a run that goes on.

mod common;

use std::io::{BufRead as _, BufReader};
use std::net::TcpStream;
use std::process::Stdio;
use std::time::{Duration, Instant};

use common::{kvllama, run};
use serde_json::Value;

fn get(address: &str, path: &str) -> (u16, String) {
    let agent = ureq::Agent::new_with_config(ureq::Agent::config_builder().http_status_as_error(false).build());
    let mut answer = agent.get(format!("{address}{path}")).call().expect("the page answers");
    (answer.status().as_u16(), answer.body_mut().read_to_string().unwrap())
}

fn sums(address: &str) -> Value {
    serde_json::from_str(&get(address, "sums").1).unwrap()
}

#[test]
fn two_shards_are_followed_to_their_end() {
    let directory = tempfile::tempdir().unwrap();
    let shards = ["1/2", "2/2"].map(|shard| (shard, directory.path().join(shard.replace('/', "-of-"))));
    let options = |shard: &str, out: &std::path::Path| -> Vec<String> {
        let out = out.to_str().unwrap();
        [
            "exp",
            "-q",
            "--threads",
            "1",
            "--policy",
            "random",
            "--ratio",
            "0.5",
            "--limit",
            "12",
            "--shard",
            shard,
            "--out",
            out,
        ]
        .map(str::to_owned)
        .to_vec()
    };
    // The first shard is finished before the watch begins; the second grows beside it.
    run(0, &options(shards[0].0, &shards[0].1).iter().map(String::as_str).collect::<Vec<_>>());
    std::fs::create_dir(&shards[1].1).unwrap();
    let mut watch = kvllama(["report", "--watch", shards[0].1.to_str().unwrap(), shards[1].1.to_str().unwrap()])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(watch.stdout.take().unwrap()).lines();
    let address = said.next().unwrap().unwrap().trim_start_matches("watch: ").to_owned();

    // It listens on loopback alone, and refuses a page that has another name for it.
    let port: u16 = address.trim_end_matches('/').rsplit(':').next().unwrap().parse().unwrap();
    assert!(TcpStream::connect(("127.0.0.2", port)).is_err(), "127.0.0.1 alone");
    let foreign = ureq::get(&address).header("Host", "example.org").call();
    assert!(matches!(foreign, Err(ureq::Error::StatusCode(403))), "{foreign:?}");
    assert!(get(&address, "").1.contains("<h2 id=\"last-heading\">The last answers</h2>"));
    assert_eq!(get(&address, "nothing").0, 404);
    let begin = sums(&address);
    assert_eq!((&begin["state"], &begin["finished"]), (&"running".into(), &begin["planned"]), "one shard is known");
    assert_eq!(get(&address, &format!("sums?after={}", begin["version"])).0, 204, "nothing has changed");

    let mut second = kvllama(options(shards[1].0, &shards[1].1)).spawn().unwrap();
    let (mut lags, mut seen, mut grown) = (Vec::new(), 0, 0);
    let rows = || std::fs::read_to_string(shards[1].1.join("trials.csv")).map_or(0, |text| text.matches("\n").count());
    let mut landed: Option<(usize, Instant)> = None;
    let until = Instant::now() + Duration::from_secs(120);
    let end = loop {
        assert!(Instant::now() < until, "the watch has not seen the end");
        let now = sums(&address);
        let finished = now["finished"].as_u64().unwrap() as usize;
        grown += usize::from(finished > seen);
        seen = finished;
        if let Some((count, at)) = landed
            && finished >= count
        {
            lags.push(at.elapsed());
            landed = None;
        }
        if landed.is_none() && rows() > 1 {
            landed = Some((begin["finished"].as_u64().unwrap() as usize + rows() - 1, Instant::now()));
        }
        if now["state"] == "done" {
            break now;
        }
        std::thread::sleep(Duration::from_millis(20));
    };
    assert!(second.wait().unwrap().success());
    assert!(grown > 1 && !lags.is_empty(), "the sums grew {grown} times");
    assert!(lags.iter().max().unwrap() < &Duration::from_secs(2), "{lags:?}");
    assert_eq!(end["finished"], 24);
    assert_eq!(end["last"].as_array().unwrap().len(), 8);
    let conditions = end["conditions"].as_array().unwrap();
    assert_eq!(conditions.len(), 2, "the shards are one run: {conditions:?}");
    assert!(conditions.iter().all(|one| one["examples"] == 12 && one["low"].as_f64() < one["high"].as_f64()));
    let (status, report) = get(&address, "report");
    assert_eq!(status, 200, "{report}");
    assert!(report.contains("<dd>12</dd>") || report.contains(">12<"), "the report of both shards");

    // It ends with the run.
    assert_eq!(said.next().unwrap().unwrap(), "done: 24 of 24 trials");
    assert!(watch.wait().unwrap().success());
}

#[test]
fn what_cannot_be_watched_is_refused() {
    let said = run(2, &["report", "--watch", "nowhere"]).stderr;
    assert!(String::from_utf8_lossy(&said).contains("nowhere is no directory"));
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let said = run(2, &["report", "--watch", "tests", "--port", &port]).stderr;
    assert!(String::from_utf8_lossy(&said).contains("choose another --port"));
}
