//! A run that is split by the tools of clusters: a Slurm array on one node, and GNU parallel.
#![cfg(target_os = "linux")]

mod common;

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use common::{kvllama, rows, run};

/// What the shards compute: a second or two of work each, so that a task can be preempted in its middle.
const RUN: &str = "--policy random --ratio 0.5 --repeats 6 --limit 40 --n-predict 64 --parallel 1";

fn installed(programs: &[&str]) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = |program: &&str| std::env::split_paths(&path).any(|folder| folder.join(program).is_file());
    let missing: Vec<_> = programs.iter().filter(|program| !found(program)).collect();
    if !missing.is_empty() {
        eprintln!("skipped: {missing:?} are not installed (Debian: slurm-wlm, munge, parallel)");
    }
    missing.is_empty()
}

fn words(text: &str) -> Vec<&str> {
    text.split(' ').collect()
}

/// The run that no one has split.
fn unsharded(out: &Path) {
    let out = out.display().to_string();
    run(0, &[&["exp"], &words(RUN)[..], &["--threads", "1", "--out", &out]].concat());
}

fn assert_same_rows(whole: &Path, unsharded: &Path) {
    for name in ["trials.csv", "instructions.csv"] {
        let [mut merged, mut expected] = [whole, unsharded].map(|directory| rows(directory, name));
        for rows in [&mut merged, &mut expected] {
            rows.values_mut().for_each(|row| drop(row.remove("run_id")));
        }
        assert_eq!(merged, expected, "{name}");
    }
}

/// Slurm's daemons on this machine, in a directory of their own.
struct Slurm {
    directory: PathBuf,
    daemons: Vec<Child>,
}

impl Slurm {
    fn start(directory: &Path) -> Self {
        let path = |name: &str| directory.join(name).display().to_string();
        let [controller, node] = [free_port(), free_port()];
        for name in ["state", "spool"] {
            std::fs::create_dir(directory.join(name)).unwrap();
        }
        std::fs::write(path("key"), [7; 1024]).unwrap();
        std::fs::set_permissions(path("key"), std::os::unix::fs::PermissionsExt::from_mode(0o400)).unwrap();
        let settings = [
            "ClusterName=test".to_owned(),
            "SlurmctldHost=localhost".to_owned(),
            format!("SlurmctldPort={controller}"),
            format!("SlurmdPort={node}"),
            "AuthType=auth/munge".to_owned(),
            format!("AuthInfo=socket={}", path("socket")),
            "SlurmUser=root".to_owned(),
            format!("StateSaveLocation={}", path("state")),
            format!("SlurmdSpoolDir={}", path("spool")),
            format!("SlurmctldPidFile={}", path("slurmctld.pid")),
            format!("SlurmdPidFile={}", path("slurmd.pid")),
            format!("SlurmctldLogFile={}", path("slurmctld.log")),
            format!("SlurmdLogFile={}", path("slurmd.log")),
            "ProctrackType=proctrack/linuxproc".to_owned(),
            "TaskPlugin=task/none".to_owned(),
            "SelectType=select/cons_tres".to_owned(),
            "SlurmdParameters=config_overrides".to_owned(),
            "SchedulerParameters=sched_interval=1,bf_interval=1".to_owned(),
            "NodeName=localhost CPUs=2".to_owned(),
            "PartitionName=main Nodes=localhost Default=YES".to_owned(),
        ];
        std::fs::write(path("slurm.conf"), settings.join("\n") + "\n").unwrap();
        let mut slurm = Slurm { directory: directory.to_owned(), daemons: Vec::new() };
        let [socket, key, seed, pid] = ["socket", "key", "seed", "munge.pid"].map(path);
        let munge = [
            format!("--socket={socket}"),
            format!("--key-file={key}"),
            format!("--seed-file={seed}"),
            format!("--pid-file={pid}"),
            format!("--log-file={}", path("munge.log")),
        ];
        slurm.daemon("munged", &[&["--foreground", "--force"][..], &munge.each_ref().map(|one| one.as_str())].concat());
        wait_until("munge listens", || directory.join("socket").exists());
        slurm.daemon("slurmctld", &["-D", "-c"]);
        slurm.daemon("slurmd", &["-D", "-c", "-N", "localhost"]);
        wait_until("the node is idle", || slurm.ask("sinfo", &["-h", "-o", "%T"]).trim() == "idle");
        slurm
    }

    fn daemon(&mut self, program: &str, arguments: &[&str]) {
        let mut command = Command::new(program);
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        self.daemons.push(self.with_settings(&mut command).spawn().unwrap());
    }

    fn with_settings<'c>(&self, command: &'c mut Command) -> &'c mut Command {
        command
            .env("SLURM_CONF", self.directory.join("slurm.conf"))
            .env("KVLLAMA", env!("CARGO_BIN_EXE_kvllama"))
            .current_dir(&self.directory)
    }

    /// The standard output of one of Slurm's commands.
    fn ask(&self, program: &str, arguments: &[&str]) -> String {
        let output = self.with_settings(Command::new(program).args(arguments)).output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    /// Submits a job; returns its number.
    fn submit(&self, arguments: &[&str]) -> String {
        let id = self.ask("sbatch", &[&["--parsable"], arguments].concat()).trim().to_owned();
        assert!(!id.is_empty(), "sbatch refused {arguments:?}");
        id
    }

    /// The state of a task of a job: `RUNNING`, `COMPLETED`.
    fn state(&self, task: &str) -> String {
        let shown = self.ask("scontrol", &["show", "job", "-o", task]);
        let state = shown.split_whitespace().find_map(|word| word.strip_prefix("JobState="));
        state.unwrap_or("unknown").to_owned()
    }
}

impl Drop for Slurm {
    fn drop(&mut self) {
        for daemon in self.daemons.iter_mut().rev() {
            let _ = daemon.kill();
            let _ = daemon.wait();
        }
    }
}

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

fn wait_until(what: &str, holds: impl Fn() -> bool) {
    let start = Instant::now();
    while !holds() {
        assert!(start.elapsed() < Duration::from_secs(180), "not within 3 minutes: {what}");
        sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_slurm_array_with_a_preempted_task_gives_the_rows_of_one_run() {
    if !installed(&["munged", "slurmctld", "slurmd", "sbatch", "scontrol"]) {
        return;
    }
    if !is_root() {
        return eprintln!("skipped: slurmd and munged must be started by root");
    }
    let directory = tempfile::tempdir().unwrap();
    let slurm = Slurm::start(directory.path());
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts/slurm-array.sbatch").display().to_string();
    let shards = directory.path().join("study").display().to_string();
    let job = slurm.submit(&[&["--array=1-8", &script, &shards], &words(RUN)[..]].concat());
    let merge = format!("$KVLLAMA merge {shards}/shard-* --out {shards}/whole");
    let dependency = format!("--dependency=afterok:{job}");
    let merging = slurm.submit(&[&dependency, "--wrap", &merge]);
    // One task is preempted twice in its middle, as a partition of higher priority would do.
    let task = format!("{job}_1");
    let rows_of_task = || {
        let file = std::fs::read_to_string(directory.path().join("study/shard-1/trials.csv"));
        file.map_or(0, |text| text.lines().count().saturating_sub(1))
    };
    for _ in 0..2 {
        let before = rows_of_task();
        wait_until("the task runs and has rows", || slurm.state(&task) == "RUNNING" && rows_of_task() > before + 1);
        slurm.ask("scontrol", &["requeue", &task]);
        wait_until("the task is queued again", || slurm.state(&task) == "PENDING");
        // Slurm lets it wait for two minutes, because its nodes refuse a credential of the second in which an earlier one
        // was revoked.
        sleep(Duration::from_secs(3));
        slurm.ask("scontrol", &["update", &format!("jobid={task}"), "StartTime=now"]);
    }
    wait_until("all jobs are done", || slurm.ask("squeue", &["-h"]).trim().is_empty());
    assert_eq!(slurm.state(&merging), "COMPLETED");
    let log = std::fs::read_to_string(directory.path().join(format!("slurm-{job}_1.out"))).unwrap();
    assert_eq!(log.matches(" finished earlier").count(), 2, "{log}");
    let reference = directory.path().join("unsharded");
    unsharded(&reference);
    assert_same_rows(&directory.path().join("study/whole"), &reference);
}

#[test]
fn gnu_parallel_runs_the_shards_of_one_run() {
    if !installed(&["parallel"]) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // The line of docs/clusters.md.
    let line =
        format!("parallel -j 2 $KVLLAMA exp {RUN} --threads 1 --shard {{}}/4 --out study/shard-{{}} ::: 1 2 3 4");
    let output = Command::new("sh")
        .args(["-c", &line])
        .env("KVLLAMA", env!("CARGO_BIN_EXE_kvllama"))
        .current_dir(directory.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let study = directory.path().join("study");
    let shards = (1..=4).map(|shard| study.join(format!("shard-{shard}")).display().to_string());
    let whole = study.join("whole");
    let merged = kvllama(["merge".to_owned()].into_iter().chain(shards)).arg("--out").arg(&whole).output().unwrap();
    assert!(merged.status.success(), "{}", String::from_utf8_lossy(&merged.stderr));
    let reference = directory.path().join("unsharded");
    unsharded(&reference);
    assert_same_rows(&whole, &reference);
}

fn is_root() -> bool {
    let user = Command::new("id").arg("-u").output().unwrap().stdout;
    user.trim_ascii() == b"0"
}
