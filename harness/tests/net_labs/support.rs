//! A lab that is gone when the test is, and other people's view of it.

use std::io::Write;
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};

use harness::net::plan::{End, Mac, Namespace, Route, Sysctl, Topology, Veth};
use harness::net::{namespace, teardown};
use nix::sys::socket::{
    AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, recv, sendto,
    setsockopt, socket, sockopt,
};
use nix::sys::time::TimeVal;
use serde_json::Value;

/// What a pod takes for its gateway; only its neighbour entry matters.
pub(crate) const GATEWAY: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// The two pods.
pub(crate) const PODS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 9, 0, 1), Ipv4Addr::new(10, 9, 0, 2)];

/// A lab's name that no other test uses, and the end of the lab.
pub(crate) struct Lab {
    pub(crate) name: String,
}

impl Lab {
    /// A new name, or none where the test cannot run.
    pub(crate) fn new() -> Option<Self> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        if !nix::unistd::geteuid().is_root() {
            // Written past the test runner, which keeps what passing tests print to itself.
            let _ = writeln!(std::io::stderr(), "skipped: needs root");
            return None;
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        Some(Self { name: format!("t{}x{number}", std::process::id()) })
    }

    /// The name of the lab's namespace `part`.
    pub(crate) fn namespace(&self, part: &str) -> String {
        format!("{}-{part}", self.name)
    }

    pub(crate) fn prefix(&self) -> String {
        teardown::prefix(&self.name).expect("a lab's name")
    }

    /// The names there are, as iproute2 sees them.
    pub(crate) fn names(&self) -> Vec<String> {
        let text = output(Command::new("ip").args(["netns", "list"]));
        let names = text.lines().filter_map(|line| line.split_whitespace().next());
        names.filter(|name| name.starts_with(&self.prefix())).map(str::to_owned).collect()
    }

    /// A node that routes between two pods; the second pod's veth has four queues.
    pub(crate) fn topology(&self) -> Topology {
        let mut node = Namespace::new(self.namespace("n1"));
        node.sysctls.push(Sysctl::new("net/ipv4/ip_forward", "1"));
        let mut plan = Topology { namespaces: vec![node], links: Vec::new() };
        for (number, (address, queues)) in PODS.into_iter().zip([1, 4]).enumerate() {
            let number = u8::try_from(number).expect("two pods");
            let pod = self.namespace(&format!("p{number}"));
            plan.namespaces.push(Namespace::new(&pod));
            let (inside, outside) = (mac(1, number), mac(2, number));
            let a = End {
                mtu: 1450,
                addresses: vec![(address, 32)],
                routes: vec![Route::default_via(GATEWAY)],
                neighbours: vec![(GATEWAY, outside)],
                ..End::new(&pod, "eth0", inside)
            };
            let b = End {
                routes: vec![Route::on_link(address, 32)],
                neighbours: vec![(address, inside)],
                ifindex: Some(100 + u32::from(number)),
                ..End::new(self.namespace("n1"), format!("cali{number}"), outside)
            };
            plan.links.push(Veth { a, b, queues });
        }
        plan
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        teardown::remove(&self.prefix()).expect("a lab can always be removed");
    }
}

pub(crate) fn mac(side: u8, number: u8) -> Mac {
    [2, 0, 0, 0, side, number]
}

/// What `ip -j -n NAMESPACE ARGUMENTS` answers.
pub(crate) fn ip(namespace: &str, arguments: &str) -> Value {
    let mut command = Command::new("ip");
    command.args(["-j", "-n", namespace]).args(arguments.split_whitespace());
    let text = output(&mut command);
    serde_json::from_str(&text).expect("iproute2 writes JSON")
}

fn output(command: &mut Command) -> String {
    let output = command.output().expect("the program is installed");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// Sends one ICMP echo request from `namespace` and waits for its reply, as ping does.
pub(crate) fn ping(namespace: &str, target: Ipv4Addr) -> nix::Result<()> {
    let socket = namespace::run_in(namespace, || {
        let flags = SockFlag::SOCK_CLOEXEC;
        socket(AddressFamily::Inet, SockType::Raw, flags, SockProtocol::Icmp)
    });
    let socket = socket.expect("the namespace is there")?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(2, 0))?;
    // Type 8, code 0, checksum, identifier 0x1234, sequence 1.
    let request = [8, 0, 0xe5, 0xca, 0x12, 0x34, 0, 1];
    let to = SockaddrIn::from(std::net::SocketAddrV4::new(target, 0));
    sendto(socket.as_raw_fd(), &request, &to, MsgFlags::empty())?;
    let mut packet = [0; 128];
    loop {
        let length = recv(socket.as_raw_fd(), &mut packet, MsgFlags::empty())?;
        // Behind the IP header without options: type 0, and the rest as it was sent.
        if length >= 28 && packet[20] == 0 && packet[24..28] == request[4..8] {
            return Ok(());
        }
    }
}
