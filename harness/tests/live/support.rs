//! What the tests of live labs share.

use std::io::Write;
use std::net::{Ipv4Addr, UdpSocket};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use datapath::lab::Lab;
use datapath::link::HostId;
use harness::live::topology::host_namespace;
use harness::net::namespace::run_in;
use serde_json::Value;

/// How long a datagram may be on its way.
pub(crate) const DATAGRAM_BOUND: Duration = Duration::from_secs(10);

/// How long anything a test waits for may take.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// One node with two pods, so a trunk with two member ENIs, and a host outside.
pub(crate) const TWO_MEMBERS: &str = "
vpc:
  cidr: 10.0.0.0/16
  vSwitches: {vsw-a: {cidr: 10.0.4.0/24}}
  securityGroups: {sg-open: {ingress: [{peer: 0.0.0.0/0}]}}
nodes:
  - {name: n1, eth0: {ip: 10.0.4.20, securityGroups: sg-open}, trunk: {ip: 10.0.4.120}}
pods:
  - {name: demo/a, node: n1, ip: 10.0.4.31, member: {vid: 101, securityGroups: sg-open}}
  - {name: demo/b, node: n1, ip: 10.0.4.32, member: {vid: 102, securityGroups: sg-open}}
outside:
  - {name: world, ips: [198.51.100.7]}
";

/// Two nodes in a VPC that lets everything pass.
pub(crate) const TWO_NODES: &str = "
vpc:
  cidr: 10.0.0.0/16
  vSwitches: {vsw-a: {cidr: 10.0.4.0/24}}
  securityGroups: {sg-open: {ingress: [{peer: 0.0.0.0/0}]}}
nodes:
  - {name: n1, eth0: {ip: 10.0.4.20, securityGroups: sg-open}, trunk: {ip: 10.0.4.120}}
  - {name: n2, eth0: {ip: 10.0.4.21, securityGroups: sg-open}, trunk: {ip: 10.0.4.121}}
";

/// A UDP socket in a host's namespace, where it stays whoever uses it.
pub(crate) fn udp(test: &TestLab, lab: &Lab, host: HostId, port: u16) -> UdpSocket {
    let namespace = host_namespace(&test.name, lab, host).expect("a host");
    let bind = move || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, port));
    let socket = run_in(&namespace, bind).expect("enter").expect("bind");
    socket.set_read_timeout(Some(DATAGRAM_BOUND)).expect("set a bound");
    socket
}

/// Whether the test may go on; says loudly where it may not.
pub(crate) fn is_root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        say("skipped: needs root");
    }
    root
}

/// Tells something past the test runner, which keeps what passing tests print to itself.
pub(crate) fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// The command under test.
pub(crate) fn trunkline(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_trunkline"));
    command.args(args);
    command
}

/// Runs the command and returns what it printed; it must succeed.
pub(crate) fn run(args: &[&str]) -> String {
    let output: Output = trunkline(args).output().expect("run trunkline");
    assert!(
        output.status.success(),
        "trunkline {args:?}: {}\n{}",
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout).expect("text")
}

/// A lab that is taken down when the test ends, however it ends; nothing of it may be left then.
pub(crate) struct TestLab {
    pub(crate) name: String,
    _file: tempfile::NamedTempFile,
    pub(crate) path: PathBuf,
}

impl TestLab {
    /// A lab of this text and a name of its own, not up yet.
    pub(crate) fn new(text: &str) -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let file = tempfile::Builder::new().suffix(".yaml").tempfile().expect("make a file");
        std::fs::write(file.path(), text).expect("write the lab");
        let path = file.path().to_owned();
        Self { name: format!("t{}x{number}", std::process::id()), _file: file, path }
    }

    /// Brings the lab up.
    pub(crate) fn up(text: &str) -> Self {
        let lab = Self::new(text);
        run(&["up", lab.path.to_str().expect("a path"), "--name", &lab.name]);
        lab
    }

    /// The lab's books.
    pub(crate) fn ledger(&self) -> Value {
        let text = run(&["ledger", "--json", "--lab", &self.name]);
        serde_json::from_str(&text).expect("json")
    }

    /// Asks the daemon something.
    pub(crate) fn ask(
        &self,
        request: harness::live::protocol::Request,
    ) -> harness::live::protocol::Answer {
        let client = harness::live::client::find(Some(&self.name)).expect("the lab");
        client.ask(request).expect("an answer")
    }

    /// Waits until the books show something.
    pub(crate) fn wait(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let deadline = Instant::now() + BOUND;
        loop {
            let ledger = self.ledger();
            if holds(&ledger) {
                return ledger;
            }
            assert!(Instant::now() < deadline, "never saw {what}: {ledger:#}");
        }
    }
}

impl Drop for TestLab {
    fn drop(&mut self) {
        let down = trunkline(&["down", &self.name]).output();
        // A test that fails says why it does.
        if !std::thread::panicking() {
            assert_eq!(remains(&self.name), [""; 0], "{down:?}");
        }
    }
}

/// What is left of a lab: namespaces, its folder, its daemon.
pub(crate) fn remains(name: &str) -> Vec<String> {
    let mut left = harness::net::namespace::list(&format!("{name}-")).expect("list namespaces");
    let folder = format!("{}/{name}", harness::live::state::RUN);
    if std::path::Path::new(&folder).exists() {
        left.push(folder);
    }
    let processes = std::fs::read_dir("/proc").expect("list processes");
    for process in processes.flatten() {
        let line = std::fs::read(process.path().join("cmdline")).unwrap_or_default();
        let words: Vec<_> = line.split(|b| *b == 0).collect();
        if words.contains(&b"daemon".as_slice()) && words.contains(&name.as_bytes()) {
            left.push(process.path().display().to_string());
        }
    }
    left
}

/// One port of the books.
pub(crate) fn port<'a>(ledger: &'a Value, element: &str, port: &str) -> &'a Value {
    let ports = ledger["ports"].as_array().expect("ports");
    let found = ports.iter().find(|p| p["element"] == element && p["port"] == port);
    found.unwrap_or_else(|| panic!("no port {port} of {element} in {ledger:#}"))
}
