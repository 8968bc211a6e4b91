//! The lab that `netns-scripts/up.sh` builds by hand is the one that `trunkline up` builds, and
//! `netns-scripts/down.sh` leaves nothing of either (spec LAB-16 to LAB-19, LAB-21).
//!
//! These tests need root. Without it each says so and counts as skipped.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use datapath_io::link::{self, Offload};
use harness::live::state::RUN;
use harness::net::{namespace, process};
use serde_json::Value;

use crate::support::{TestLab, is_root, remains, run};

const ARTICLE: &str = include_str!("../../../scenarios/article.yaml");
/// The namespaces of that lab: three nodes, their own stacks, four pods, the VPC.
const NAMESPACES: usize = 11;
/// What `up.sh` makes last.
const LAST: &str = "pod-trunking.nginx-6f545cb57c-kt7r8";

/// One of the scripts, for a lab of this name.
fn script(which: &str, name: &str) -> Output {
    let path = format!("{}/../netns-scripts/{which}", env!("CARGO_MANIFEST_DIR"));
    Command::new(path).arg(name).output().expect("run a script")
}

/// Runs `down.sh`, which must succeed.
fn down(name: &str) {
    let output = script("down.sh", name);
    assert!(output.status.success(), "down.sh: {}", text(&output.stderr));
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A name for a lab by hand, under which nothing is left when the test ends, however it ends.
struct ByHand(String);

impl ByHand {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        Self(format!("n{}x{number}", std::process::id()))
    }

    /// Builds the lab and returns what the script had to complain of.
    fn up(&self) -> String {
        let output = script("up.sh", &self.0);
        assert!(output.status.success(), "up.sh: {}", text(&output.stderr));
        text(&output.stderr)
    }
}

impl Drop for ByHand {
    fn drop(&mut self) {
        let _ = script("down.sh", &self.0);
    }
}

/// What must be the same of an interface. Its index and what the kernel derives are not.
#[derive(Debug, PartialEq, Eq)]
struct Device {
    mac: String,
    mtu: u64,
    up: bool,
    /// Receive and transmit queues.
    queues: [u64; 2],
    /// Addresses with their prefix lengths.
    addresses: BTreeSet<(String, u64)>,
    /// Namespace, without the lab's name, and name of a veth's other end.
    peer: Option<(String, String)>,
    ipv6_off: Option<String>,
    offloads: Vec<Offload>,
}

/// What must be the same of a namespace.
#[derive(Debug, PartialEq, Eq)]
struct Space {
    devices: BTreeMap<String, Device>,
    /// Routes of the main table.
    routes: BTreeSet<String>,
    /// Permanent neighbours, the only ones there are.
    neighbours: BTreeSet<String>,
    /// The `disable_ipv6` of all interfaces and of those to come; none in a kernel without IPv6.
    ipv6_off: [Option<String>; 2],
}

/// What `ip` has to say in a namespace.
fn ip(namespace: &str, words: &str) -> Vec<Value> {
    let mut command = Command::new("ip");
    command.args(["-n", namespace, "-j"]).args(words.split(' '));
    let output = command.output().expect("run ip");
    assert!(output.status.success(), "ip {words}: {}", text(&output.stderr));
    serde_json::from_slice(&output.stdout).expect("json")
}

fn word(value: &Value) -> String {
    value.as_str().unwrap_or_else(|| panic!("not a word: {value}")).to_owned()
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("not a number: {value}"))
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().unwrap_or_else(|| panic!("not an array: {value}")).iter()
}

/// The `disable_ipv6` of an interface in the calling thread's namespace.
fn ipv6_off(which: &str) -> Option<String> {
    fs::read_to_string(format!("/proc/sys/net/ipv6/conf/{which}/disable_ipv6")).ok()
}

/// The name of an interface that has this index.
fn name_of(namespace: &str, index: u64) -> String {
    let links = ip(namespace, "link");
    let found = links.iter().find(|link| link["ifindex"] == index);
    word(&found.unwrap_or_else(|| panic!("{namespace} has no link {index}"))["ifname"])
}

/// The other end of a veth. `ip` names it where both ends are in one namespace; elsewhere it has
/// an index, in the namespace that has a number here.
fn peer(lab: &str, namespace: &str, link: &Value) -> Option<(String, String)> {
    let suffix = |of: &str| of.strip_prefix(&format!("{lab}-")).expect("of this lab").to_owned();
    if link["linkinfo"]["info_kind"] != "veth" {
        return None;
    }
    let Some(there) = link["link_netnsid"].as_u64() else {
        return Some((suffix(namespace), word(&link["link"])));
    };
    let known = ip(namespace, "netns list-id");
    let there = known.iter().find(|id| id["nsid"] == there).expect("a namespace with a name");
    let there = word(&there["name"]);
    Some((suffix(&there), name_of(&there, number(&link["link_index"]))))
}

fn device(lab: &str, namespace: &str, link: &Value) -> Device {
    let name = word(&link["ifname"]);
    let addresses = &ip(namespace, &format!("addr show dev {name}"))[0]["addr_info"];
    let (ipv6_off, offloads) =
        namespace::run_in(namespace, || (ipv6_off(&name), link::offloads(&name)))
            .expect("enter the namespace");
    // The kernel turns it off where an XDP program takes the frames, and nothing takes them in a
    // lab by hand.
    let mut offloads = offloads.expect("read the offloads");
    offloads.retain(|offload| *offload != Offload::Segmentation);
    Device {
        mac: word(&link["address"]),
        mtu: number(&link["mtu"]),
        up: array(&link["flags"]).any(|flag| flag == "UP"),
        queues: [number(&link["num_rx_queues"]), number(&link["num_tx_queues"])],
        addresses: array(addresses)
            .map(|address| (word(&address["local"]), number(&address["prefixlen"])))
            .collect(),
        peer: peer(lab, namespace, link),
        ipv6_off,
        offloads,
    }
}

fn space(lab: &str, namespace: &str) -> Space {
    let links = ip(namespace, "-d link");
    let mut routes = ip(namespace, "route");
    for route in &mut routes {
        // Says which kind of program has made it.
        route.as_object_mut().expect("an object").remove("protocol");
    }
    let neighbours = ip(namespace, "neigh");
    let lines = |values: &[Value]| values.iter().map(ToString::to_string).collect();
    Space {
        devices: links
            .iter()
            .map(|link| (word(&link["ifname"]), device(lab, namespace, link)))
            .collect(),
        routes: lines(&routes),
        neighbours: lines(&neighbours),
        ipv6_off: namespace::run_in(namespace, || ["all", "default"].map(ipv6_off))
            .expect("enter the namespace"),
    }
}

/// All namespaces of a lab, by their names without the lab's.
fn state(lab: &str) -> BTreeMap<String, Space> {
    let prefix = format!("{lab}-");
    let names = namespace::list(&prefix).expect("list namespaces");
    names.iter().map(|name| (name[prefix.len()..].to_owned(), space(lab, name))).collect()
}

/// A process in a namespace of the lab that ends only when it is made to.
fn inhabit(lab: &str) -> Child {
    let mut command = Command::new("sleep");
    command.arg("600").stdin(Stdio::null()).stdout(Stdio::null());
    process::spawn_in(&format!("{lab}-{LAST}"), &mut command).expect("start a process in a pod")
}

#[test]
fn the_lab_by_hand_is_the_one_that_trunkline_builds() {
    if !is_root() {
        return;
    }
    let lab = TestLab::up(ARTICLE);
    let mut theirs = state(&lab.name);
    run(&["down", &lab.name]);
    assert_eq!(theirs.len(), NAMESPACES, "{:?}", theirs.keys());

    let hand = ByHand::new();
    let complaints = hand.up();
    let mut ours = state(&hand.0);
    if complaints.contains("SKIPPED for want of ethtool") {
        // Nothing but ethtool sets these; the script has said that they are not as they should be.
        for device in [&mut theirs, &mut ours]
            .into_iter()
            .flat_map(BTreeMap::values_mut)
            .flat_map(|space| space.devices.values_mut())
        {
            device.offloads.clear();
        }
    } else {
        assert_eq!(complaints, "");
    }
    for (name, space) in &theirs {
        assert_eq!(ours.get(name), Some(space), "{name}");
    }
    assert_eq!(ours.len(), theirs.len(), "{:?}", ours.keys());
}

#[test]
fn down_leaves_nothing_of_a_lab_by_hand() {
    if !is_root() {
        return;
    }
    let hand = ByHand::new();
    hand.up();
    let mut process = inhabit(&hand.0);
    assert_eq!(remains(&hand.0).len(), NAMESPACES);
    down(&hand.0);
    assert!(!process.wait().expect("it ended").success(), "ended by a signal");
    assert_eq!(remains(&hand.0), Vec::<String>::new());
    // Where there is nothing, there is nothing to do.
    down(&hand.0);
}

#[test]
fn down_leaves_nothing_of_a_lab_by_trunkline() {
    if !is_root() {
        return;
    }
    let lab = TestLab::up(ARTICLE);
    let mut process = inhabit(&lab.name);
    down(&lab.name);
    assert!(!process.wait().expect("it ended").success(), "ended by a signal");
    assert_eq!(remains(&lab.name), Vec::<String>::new());
}

#[test]
fn down_leaves_nothing_of_half_a_lab() {
    if !is_root() {
        return;
    }
    let hand = ByHand::new();
    namespace::create(&format!("{}-{LAST}", hand.0)).expect("take the last name");
    let failed = script("up.sh", &hand.0);
    assert!(!failed.status.success(), "its last name is taken");
    let said = text(&failed.stderr);
    assert!(said.contains(&format!("down.sh {}", hand.0)), "says how to go on: {said}");
    assert_eq!(remains(&hand.0).len(), NAMESPACES, "it came as far as the last one");
    down(&hand.0);
    assert_eq!(remains(&hand.0), Vec::<String>::new());
}

#[test]
fn down_spares_a_process_that_only_has_the_forwarders_number() {
    if !is_root() {
        return;
    }
    let hand = ByHand::new();
    let folder = format!("{RUN}/{}", hand.0);
    fs::create_dir_all(&folder).expect("make the lab's folder");
    let mut other = Command::new("sleep").arg("600").spawn().expect("start a process");
    let found = process::ProcessId::of(other.id()).expect("it runs");
    let gone = process::ProcessId { start_time: found.start_time - 1, ..found };
    let noted = serde_json::to_string(&gone).expect("plain data");
    fs::write(format!("{folder}/pid"), noted).expect("note the forwarder");
    down(&hand.0);
    assert!(found.is_running(), "it is somebody else's");
    assert_eq!(remains(&hand.0), Vec::<String>::new());
    other.kill().expect("end it");
    other.wait().expect("it ended");
}

#[test]
fn the_scripts_refuse_names_that_are_no_labs() {
    for which in ["up.sh", "down.sh"] {
        for name in ["..", "a-b", "1a", "A", "a/b"] {
            let refused = script(which, name);
            assert!(!refused.status.success(), "{which} {name}");
            assert!(text(&refused.stderr).contains("a name has"), "{which} {name}");
        }
    }
}
