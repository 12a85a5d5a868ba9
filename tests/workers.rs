//! A model divided between two workers on this machine (feature `rpc`).
#![cfg(feature = "rpc")]

mod common;

use std::net::{TcpListener, TcpStream};
use std::process::{Child, Stdio};
use std::thread::sleep;
use std::time::Duration;

use common::{kvllama, tiny_model};

/// A worker, ended with this value.
struct Worker {
    child: Child,
    endpoint: String,
}

impl Worker {
    fn start() -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = kvllama(["worker", "--threads=1", &format!("--port={port}")]);
        let child = command.stdout(Stdio::null()).spawn().unwrap();
        let endpoint = format!("127.0.0.1:{port}");
        while TcpStream::connect(&endpoint).is_err() {
            sleep(Duration::from_millis(20));
        }
        Worker { child, endpoint }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

#[test]
fn two_workers_give_the_logits_of_one_process() {
    let workers = [Worker::start(), Worker::start()];
    let endpoints = workers.each_ref().map(|worker| worker.endpoint.as_str()).join(",");
    let (directory, model) = (tempfile::tempdir().unwrap(), tiny_model().display().to_string());
    for more in ["--positions=keep", "--positions=compact", "--dense", "--kv-type=f32"] {
        let logits = |name: &str, workers: &[&str]| {
            let path = directory.path().join(name);
            let text =
                "probe --tokens=2,17,20,30,40,50,60,70,80 --policy=snapkv --ratio=0.5 --threads=1 --continue=9,10";
            let mut command = kvllama(text.split(' '));
            command.args([more, "--model", &model]).args(workers).arg("--logits").arg(&path);
            let output = command.output().unwrap();
            assert!(output.status.success(), "{more}: {}", String::from_utf8_lossy(&output.stderr));
            std::fs::read(path).unwrap()
        };
        assert!(logits("alone.npy", &[]) == logits("divided.npy", &["--workers", &endpoints]), "{more}");
    }
}

#[test]
fn a_worker_that_is_not_there_or_ends_is_one_sentence() {
    let said = |workers: &str, code: i32, expected: &str| {
        let text =
            "exp --policy=random --ratio=0.5 --limit=60 --n-predict=40 --parallel=1 --quiet --threads=1 --workers";
        let directory = tempfile::tempdir().unwrap();
        let out = directory.path().join("run").display().to_string();
        let output = kvllama(text.split(' ').chain([workers, "--out", &out])).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{said}");
        assert!(said.contains(expected) && said.lines().count() == 1, "{said}");
    };
    said("127.0.0.1:1", 2, "no worker answers at 127.0.0.1:1");
    let worker = Worker::start();
    let endpoint = worker.endpoint.clone();
    let killer = std::thread::spawn(move || {
        sleep(Duration::from_millis(1500));
        drop(worker);
    });
    said(&endpoint, 1, "a worker ended");
    killer.join().unwrap();
}
