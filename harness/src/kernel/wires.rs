//! The veths of a lab's nodes. Their far ends are in a namespace where nobody has an address, so
//! that whoever holds them is pod, outside host and VPC.

use std::collections::BTreeMap;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use anyhow::{Context, bail};
use datapath::journey::PortId;
use datapath::lab::Lab;
use datapath::link::{ElementId, Socket};
use datapath::node::{ETH1, HOST0, Interface, TRUNK_IFINDEX};
use datapath_io::PacketSocket;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::net::namespace;
use crate::net::plan::{End, Namespace, Topology, User, Veth};

use super::program::Program;
use super::stack::Stack;

/// The veth that carries markers.
const MARKER: [&str; 2] = ["marker0", "marker1"];
/// A frame of nobody's, of an EtherType for experiments.
const MARK: [u8; 60] = {
    let mut frame = [0; 60];
    (frame[0], frame[6]) = (2, 2);
    (frame[12], frame[13]) = (0x88, 0xb5);
    frame
};
/// How long a marker may take. It takes microseconds.
const MARKER_BOUND: Duration = Duration::from_secs(10);
/// Rounds without news after which nothing moves any more. A frame passes at most three devices
/// in a node, one after the other: in, lo (an answer to the node itself), out. Each has it wait
/// in the CPU's queue behind the frames that came before, a marker among them, so that one round
/// is over at the latest when each wait is; the fourth is for what the last one brought.
const QUIET_ROUNDS: usize = 4;

/// The names of a bed's namespaces; they are gone with it.
#[derive(Debug)]
pub(super) struct Names(Vec<String>);

impl Drop for Names {
    fn drop(&mut self) {
        for name in &self.0 {
            if let Err(error) = namespace::delete(name) {
                tracing::warn!(%error, "a namespace stays behind");
            }
        }
    }
}

/// The namespace of a node.
pub(super) fn node_namespace(bed: &str, node: usize) -> String {
    format!("{bed}-n{node}")
}

fn far_namespace(bed: &str) -> String {
    format!("{bed}-far")
}

/// What is to be made for a lab: a namespace for each node, and one for the far ends.
pub(super) fn topology(lab: &Lab, bed: &str, programs: &[Program]) -> anyhow::Result<Topology> {
    let far = far_namespace(bed);
    let mut topology = Topology::default();
    topology.namespaces.push(Namespace::new(&far));
    for (node, program) in programs.iter().enumerate() {
        let name = node_namespace(bed, node);
        let mut namespace = Namespace::new(&name);
        namespace.sysctls.extend(program.sysctls.iter().cloned());
        topology.namespaces.push(namespace);
        let interfaces = Interface::of_node(lab, node).context("no such node")?;
        for (port, interface) in (0..).map(PortId).zip(&interfaces) {
            if port == HOST0 {
                continue;
            }
            let mut near = End::new(&name, &interface.name, interface.mac.0);
            near.mtu = interface.mtu.into();
            near.user = User::Stack;
            near.ifindex = (port == ETH1).then_some(TRUNK_IFINDEX);
            let mac = [2, 0xfa, 0, 0, 0, 0];
            let mut end = End::new(&far, far_end(node, port), mac);
            // Room for what is sent here to a node whose own MTU is smaller.
            end.mtu = 9_000;
            end.user = User::Stack;
            topology.links.push(Veth { a: near, b: end, queues: 1 });
        }
    }
    let [a, b] = MARKER.map(|name| End::new(&far, name, [2, 0xfb, 0, 0, 0, 0]));
    topology.links.push(Veth { a, b, queues: 1 });
    Ok(topology)
}

fn far_end(node: usize, port: PortId) -> String {
    format!("n{node}p{}", port.0)
}

impl Names {
    pub(super) fn of(topology: &Topology) -> Self {
        Self(topology.namespaces.iter().map(|namespace| namespace.name.clone()).collect())
    }
}

/// The far ends of every wire of the nodes, and the nodes' own stacks.
#[derive(Debug)]
pub(super) struct Wires {
    ends: BTreeMap<(usize, PortId), PacketSocket>,
    stacks: Vec<Stack>,
    marker: [PacketSocket; 2],
}

impl Wires {
    /// Opens them, once the topology is made.
    pub(super) fn open(lab: &Lab, bed: &str) -> anyhow::Result<Self> {
        let open = || {
            let mut ends = BTreeMap::new();
            for node in 0..lab.nodes.len() {
                for (port, _) in datapath::link::ports_of(lab, ElementId::Node(node)) {
                    if port != HOST0 {
                        ends.insert((node, port), PacketSocket::open(&far_end(node, port))?);
                    }
                }
            }
            let [a, b] = MARKER;
            anyhow::Ok((ends, [PacketSocket::open(a)?, PacketSocket::open(b)?]))
        };
        let (ends, marker) = namespace::run_in(&far_namespace(bed), open)??;
        let stacks = (0..lab.nodes.len())
            .map(|node| {
                let open = || Stack::open(lab, node);
                namespace::run_in(&node_namespace(bed, node), open)?
            })
            .collect::<anyhow::Result<_>>()?;
        Ok(Self { ends, stacks, marker })
    }

    /// Sends a frame into a node by one of its ports.
    pub(super) fn send(&mut self, node: usize, port: PortId, frame: &[u8]) -> anyhow::Result<()> {
        if port == HOST0 {
            return self.stacks.get(node).context("no such node")?.send(frame);
        }
        let end = self.ends.get(&(node, port)).context("no such port")?;
        end.send(frame).with_context(|| format!("send a frame to port {}", port.0))
    }

    /// Waits until nothing moves in the nodes any more and gives what has left them, in order.
    pub(super) fn settle(&mut self) -> anyhow::Result<Vec<(Socket, Vec<u8>)>> {
        let mut left = Vec::new();
        let mut quiet = 0;
        while quiet < QUIET_ROUNDS {
            self.pass_marker()?;
            let before = left.len();
            self.collect(&mut left)?;
            quiet = if left.len() == before { quiet + 1 } else { 0 };
        }
        Ok(left)
    }

    fn pass_marker(&mut self) -> anyhow::Result<()> {
        let [from, to] = &mut self.marker;
        from.send(&MARK).context("send a marker")?;
        while to.receive()?.is_none() {
            if !readable([to.as_fd()], MARKER_BOUND)? {
                bail!("no marker came through within {} s", MARKER_BOUND.as_secs());
            }
        }
        Ok(())
    }

    /// Waits at most so long for something to leave a node; says whether something did.
    pub(super) fn wait(&self, bound: Duration) -> anyhow::Result<bool> {
        let ends = self.ends.values().map(AsFd::as_fd);
        readable(ends.chain(self.stacks.iter().flat_map(Stack::fds)), bound)
    }

    fn collect(&mut self, left: &mut Vec<(Socket, Vec<u8>)>) -> anyhow::Result<()> {
        if !self.wait(Duration::ZERO)? {
            return Ok(());
        }
        for (&(node, port), end) in &mut self.ends {
            while let Some(frame) = end.receive()? {
                left.push((Socket { element: ElementId::Node(node), port }, frame));
            }
        }
        for (node, stack) in self.stacks.iter_mut().enumerate() {
            while let Some(frame) = stack.receive()? {
                let socket = Socket { element: ElementId::Node(node), port: HOST0 };
                left.push((socket, frame));
            }
        }
        Ok(())
    }
}

/// Waits at most so long until one of them has something to read.
fn readable<'a>(
    fds: impl IntoIterator<Item = BorrowedFd<'a>>,
    bound: Duration,
) -> anyhow::Result<bool> {
    let mut fds: Vec<_> = fds.into_iter().map(|fd| PollFd::new(fd, PollFlags::POLLIN)).collect();
    // Rounded up, so that nobody wakes too early again and again.
    let millis = bound.as_nanos().div_ceil(1_000_000);
    let bound = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
    match poll(&mut fds, bound) {
        Ok(ready) => Ok(ready > 0),
        Err(Errno::EINTR) => Ok(false),
        Err(errno) => Err(errno).context("wait for frames"),
    }
}
