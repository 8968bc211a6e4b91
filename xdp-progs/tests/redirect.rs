//! The program itself, run by the kernel's test facility.

use std::io::{self, Write};
use std::net::UdpSocket;
use std::os::fd::AsFd;

use xdp_progs::{ProgError, Redirect, Verdict};

/// Not by a macro: the test harness would keep it to itself.
fn say(what: &str) {
    let _ = writeln!(io::stderr(), "{what}");
}

/// Loading a program takes root; says so where it is missing.
fn is_root() -> bool {
    let own = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let root = own
        .lines()
        .filter_map(|line| line.strip_prefix("Uid:"))
        .any(|ids| ids.split_whitespace().nth(1) == Some("0"));
    if !root {
        say("skipped: needs root");
    }
    root
}

#[test]
fn a_queue_without_socket_drops() {
    if is_root() {
        let program = Redirect::load(4).unwrap();
        for length in [14, 60, 64, 1_518] {
            assert_eq!(program.test_run(&vec![0x5a; length]).unwrap(), Verdict::Drop, "{length}");
        }
    }
}

#[test]
fn the_map_takes_nothing_but_xdp_sockets_of_known_queues() {
    if is_root() {
        let program = Redirect::load(2).unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let wrong_kind = program.set_socket(0, udp.as_fd());
        assert!(matches!(wrong_kind, Err(ProgError::Kernel { .. })), "{wrong_kind:?}");
        let wrong_queue = program.set_socket(2, udp.as_fd());
        assert!(matches!(wrong_queue, Err(ProgError::NoSuchQueue { queue: 2, queues: 2 })));
    }
}

#[test]
fn a_port_without_queues_is_refused() {
    assert!(matches!(Redirect::load(0), Err(ProgError::NoQueues)));
}

#[test]
fn every_port_loads_its_own_program() {
    if is_root() {
        let (one, two) = (Redirect::load(1).unwrap(), Redirect::load(256).unwrap());
        assert_eq!((one.queues(), two.queues()), (1, 256));
        let ids =
            [one, two].map(|p| libbpf_rs::Program::id_from_fd(p.fd().unwrap().as_fd()).unwrap());
        assert_ne!(ids[0], ids[1]);
    }
}

#[test]
fn an_unknown_interface_is_an_error() {
    if is_root() {
        let mut program = Redirect::load(1).unwrap();
        let refused = program.attach(i32::MAX);
        assert!(matches!(refused, Err(ProgError::Kernel { step: "attach", .. })), "{refused:?}");
        assert!(!program.is_attached());
    }
}

/// Linux 5.18 and later can, which is older than anything this runs on.
#[test]
fn it_runs_on_live_frames() {
    if is_root() {
        assert!(Redirect::load(1).unwrap().runs_live_frames().unwrap());
    }
}

/// Run again by itself with fewer rights: packet pointers would need CAP_PERFMON.
#[test]
fn it_loads_without_cap_perfmon() {
    const AGAIN: &str = "REDIRECT_TEST_WITH_FEWER_RIGHTS";
    if std::env::var_os(AGAIN).is_some() {
        let status = std::fs::read_to_string("/proc/self/status").unwrap();
        let rights = status.lines().find_map(|line| line.strip_prefix("CapEff:\t")).unwrap();
        let rights = u64::from_str_radix(rights.trim(), 16).unwrap();
        assert_eq!(rights & (1 << 38), 0, "CAP_PERFMON is still there");
        assert_eq!(Redirect::load(1).unwrap().test_run(&[0; 60]).unwrap(), Verdict::Drop);
    } else if is_root() {
        let status = std::process::Command::new("setpriv")
            .args(["--bounding-set", "-all,+net_admin,+net_raw,+bpf", "--inh-caps", "-all"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "it_loads_without_cap_perfmon", "--nocapture"])
            .env(AGAIN, "1")
            .status();
        match status {
            Ok(status) => assert!(status.success()),
            Err(missing) => say(&format!("skipped: needs setpriv: {missing}")),
        }
    }
}
