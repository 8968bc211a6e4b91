//! Every scheduler against what a 6.1 kernel did with the same calls, connections and closings
//! (spec IPVS-9 to IPVS-13, IPVS-70 to IPVS-77).
//!
//! Each line of `schedulers/linux-6.1.txt` is a case: the scheduler with its flags, what happens,
//! and the destination that the kernel gave each connection, `-` where it refused it.
//!
//! | step | what happens |
//! |---|---|
//! | `v9` | the virtual address is 192.168.0.9 |
//! | `+a4/10/5` | destination `a` comes, with weight 4 and the thresholds 10 and 5 |
//! | `~a0` | its weight becomes 0 |
//! | `-a` | it goes |
//! | `=wlc` | the service gets another scheduler |
//! | `p20` | 20 connections come, from one client's rising ports |
//! | `s20` | 20 connections come, from rising addresses |
//! | `x2` | from now on every second connection is closed by its client at once |
//! | `o3` | from now on the oldest open one is closed after every third connection |
//! | `r4` | servers reset the 4 oldest open ones |
//! | `w12` | 12 seconds pass |

use std::net::Ipv4Addr;

use crate::common::{ACK, Addr, Bench, FIN, RST, SYN, tcp};
use datapath::journey::PortId;
use datapath::lab::{Lab, Scheduler, load};

const PICKS: &str = include_str!("../schedulers/linux-6.1.txt");
const CLIENT: PortId = PortId(3);
const SECOND: u64 = 1_000_000_000;

/// A service with one client, changed and used step by step.
struct Play {
    bench: Bench,
    scheduler: String,
    vip: Ipv4Addr,
    /// Name, weight and thresholds of the destinations, in order of addition.
    endpoints: Vec<(char, String)>,
    next_port: u16,
    next_address: u32,
    /// Clients whose connections are open, with their destinations.
    open: Vec<(Addr, Addr)>,
    close_every: Option<usize>,
    close_oldest_every: Option<usize>,
    picks: String,
}

fn destination(name: char) -> Addr {
    (Ipv4Addr::new(10, 9, 0, name as u8 - b'a' + 1), 8080)
}

impl Play {
    fn new(scheduler: &str) -> Self {
        let vip = Ipv4Addr::new(192, 168, 0, 12);
        Self {
            bench: Bench::new(lab(scheduler, vip, &[])),
            scheduler: scheduler.to_owned(),
            vip,
            endpoints: Vec::new(),
            next_port: 40_000,
            next_address: Ipv4Addr::new(10, 1, 0, 0).into(),
            open: Vec::new(),
            close_every: None,
            close_oldest_every: None,
            picks: String::new(),
        }
    }

    fn apply(&mut self) {
        let lab = lab(&self.scheduler, self.vip, &self.endpoints);
        self.bench.node.apply(&lab, self.bench.now);
    }

    fn step(&mut self, step: &str) {
        let (kind, rest) = step.split_at(1);
        let count = || rest.parse::<usize>().expect("a count");
        let name = rest.chars().next().unwrap_or_default();
        match kind {
            "v" => self.vip = Ipv4Addr::new(192, 168, 0, rest.parse().expect("a byte")),
            "+" => self.endpoints.push((name, rest[1..].to_owned())),
            "~" => {
                let endpoint = self.endpoints.iter_mut().find(|(known, _)| *known == name);
                endpoint.expect("an endpoint").1 = rest[1..].to_owned();
            }
            "-" => self.endpoints.retain(|(known, _)| *known != name),
            "=" => self.scheduler = rest.to_owned(),
            "x" => self.close_every = Some(count()),
            "o" => self.close_oldest_every = Some(count()),
            "p" => (0..count()).for_each(|_| {
                self.connect((Ipv4Addr::new(10, 0, 4, 40), self.next_port));
                self.next_port += 1;
            }),
            "s" => (0..count()).for_each(|_| {
                self.connect((Ipv4Addr::from(self.next_address), 40_000));
                self.next_address += 1;
            }),
            "r" => (0..count()).for_each(|_| {
                let (client, server) = self.open.remove(0);
                let port = PortId(CLIENT.0 + u16::from(server.0.octets()[3]));
                self.bench.packet(port, &tcp(server, client, RST | ACK));
            }),
            "w" => (0..count()).for_each(|_| drop(self.bench.wait(SECOND))),
            _ => panic!("no such step: {step}"),
        }
        if "v+~-=".contains(kind) {
            self.apply();
        }
    }

    fn connect(&mut self, client: Addr) {
        let seen = self.bench.packet(CLIENT, &tcp(client, (self.vip, 80), SYN));
        let [seen] = &seen[..] else { panic!("{seen:?}") };
        let server = seen.view().dst;
        let name = ('a'..='d').find(|name| destination(*name) == server);
        self.picks.push(name.unwrap_or('-'));
        if name.is_none() {
            return;
        }
        self.open.push((client, server));
        let is_due =
            |every: Option<usize>| every.is_some_and(|n| self.picks.len().is_multiple_of(n));
        let (newest, oldest) = (is_due(self.close_every), is_due(self.close_oldest_every));
        if newest {
            let last = self.open.pop();
            self.close(last);
        }
        if oldest {
            let first = self.open.remove(0);
            self.close(Some(first));
        }
    }

    fn close(&mut self, connection: Option<(Addr, Addr)>) {
        let (client, _) = connection.expect("a connection");
        self.bench.packet(CLIENT, &tcp(client, (self.vip, 80), FIN));
    }
}

/// A lab with this service.
fn lab(scheduler: &str, vip: Ipv4Addr, endpoints: &[(char, String)]) -> Lab {
    let (scheduler, flags) = scheduler.split_once('/').unwrap_or((scheduler, ""));
    let flags = flags.split('/').filter(|flag| !flag.is_empty());
    let flags: Vec<_> = flags.map(|flag| format!("{scheduler}-{flag}")).collect();
    let endpoint = |(name, numbers): &(char, String)| {
        let mut numbers = numbers.split('/').chain(["0", "0"]);
        let mut next = || numbers.next().expect("a number").to_owned();
        let (weight, upper, lower) = (next(), next(), next());
        format!("{{pod: t/{name}, weight: {weight}, upper: {upper}, lower: {lower}}}")
    };
    let endpoints: Vec<_> = endpoints.iter().map(endpoint).collect();
    let pod = |(name, ip): (char, &str)| {
        format!("  - {{name: t/{name}, node: n1, ip: {ip}, member: {{securityGroups: sg-open}}}}\n")
    };
    let pods = [('x', "10.0.4.40"), ('a', "10.9.0.1"), ('b', "10.9.0.2"), ('c', "10.9.0.3")];
    let pods: String = pods.into_iter().chain([('d', "10.9.0.4")]).map(pod).collect();
    let text = format!(
        "vpc:
  cidr: 10.0.0.0/8
  vSwitches: {{vsw-4: {{cidr: 10.0.4.0/24}}, vsw-9: {{cidr: 10.9.0.0/24}}}}
  securityGroups: {{sg-open: {{ingress: [{{peer: 0.0.0.0/0}}]}}}}
nodes:
  - {{name: n1, eth0: {{ip: 10.0.4.20, securityGroups: sg-open}}, trunk: {{ip: 10.0.4.120}}}}
pods:
{pods}services:
  - name: t/service
    clusterIP: {vip}
    scheduler: {scheduler}
    schedulerFlags: [{}]
    ports: [{{port: 80, targetPort: 8080}}]
    endpoints: [{}]
switches:
  masqueradeRandomFully: false
  icmpRatelimit: 0
  ipvs: {{expireNodestConn: false, gracefulTermination: false}}
",
        flags.join(", "),
        endpoints.join(", ")
    );
    load(&text, "lab.yaml").expect("a lab")
}

/// The picks of a case, `scheduler: steps`.
fn play(case: &str) -> String {
    let (scheduler, steps) = case.split_once(": ").expect("a scheduler");
    let mut play = Play::new(scheduler);
    steps.split(' ').for_each(|step| play.step(step));
    play.picks
}

#[test]
fn picks_are_the_kernels() {
    let wrong: Vec<_> = PICKS
        .lines()
        .filter_map(|line| {
            let (case, kernel) = line.split_once(" = ").expect("picks");
            let ours = play(case);
            (ours != kernel).then(|| format!("{case}\n kernel {kernel}\n   ours {ours}"))
        })
        .collect();
    let count = PICKS.lines().count();
    assert!(wrong.is_empty(), "{} of {count} differ\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_scheduler_was_measured_but_twos() {
    for scheduler in Scheduler::ALL {
        let prefix = format!("{}: ", scheduler.name());
        let cases = PICKS.lines().filter(|line| line.starts_with(&prefix)).count();
        assert_eq!(cases == 0, scheduler == Scheduler::Twos, "{scheduler:?}: {cases}");
    }
}

/// With nothing to tell the loads apart but the new connections themselves, two choices are within
/// one connection of each other far more often than single draws would be.
#[test]
fn twos_keeps_the_loads_in_proportion_to_the_weights() {
    let picks = play("twos: +a1 +b2 +c3 +d4 p1000");
    let shares = ['a', 'b', 'c', 'd'].map(|name| picks.matches(name).count());
    for (share, expected) in shares.into_iter().zip([100, 200, 300, 400]) {
        assert!(share.abs_diff(expected) <= 5, "{shares:?}");
    }
    assert_eq!(play("twos: +a1 +b2 +c3 +d4 p50"), picks[..50], "the lab's seed decides");
    assert_eq!(play("twos: +a1 +b0 p3 ~a0 p2"), "aaa--");
}

#[test]
fn a_day_without_connections_is_forgotten() {
    // The first of the list again, as if nothing had come before; connections end after a minute.
    assert_eq!(play("lblc: +a9 p1 +b9 p1 w120 p1 w86399 p1 w86400 p1"), "aaaab");
    assert_eq!(play("lblcr: +a9 p1 +b9 p1 w120 p1 w86399 p1 w86400 p1"), "aaaab");
}
