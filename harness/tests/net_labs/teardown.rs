//! Whatever is left of a lab goes, and nothing else does.

use std::fs::File;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use harness::net::process::{ProcessId, living_in, spawn_in};
use harness::net::teardown::{Removed, remove};
use harness::net::{NetError, apply, namespace, stats};

use crate::support::Lab;

fn sleeper(namespace: &str) -> (Child, ProcessId) {
    let mut command = Command::new("sleep");
    command.arg("600").stdin(Stdio::null()).stdout(Stdio::null());
    let child = spawn_in(namespace, &mut command).expect("sleep is installed");
    let process = ProcessId::of(child.id()).expect("not waited for");
    (child, process)
}

#[test]
fn a_whole_lab_with_a_process_inside_goes_and_its_neighbour_stays() {
    let (Some(lab), Some(other)) = (Lab::new(), Lab::new()) else { return };
    apply(&lab.topology()).expect("the plan is right");
    let neighbour = other.namespace("n1");
    namespace::create(&neighbour).expect("free");
    let (mut inside, process) = sleeper(&lab.namespace("p0"));
    let (mut outside, spared) = sleeper(&neighbour);

    let home = namespace::id(&lab.namespace("p0")).expect("is there");
    assert_eq!(living_in(&[home]).expect("/proc"), [process]);

    let removed = remove(&lab.prefix()).expect("nothing resists");
    let names = ["n1", "p0", "p1"].map(|part| lab.namespace(part));
    assert_eq!(removed, Removed { processes: vec![process], namespaces: names.into() });
    assert!(!process.is_running());
    assert_eq!(lab.names(), [""; 0]);
    assert_eq!(remove(&lab.prefix()).expect("nothing to do"), Removed::default());

    assert!(spared.is_running());
    assert_eq!(other.names(), [neighbour]);
    remove(&other.prefix()).expect("nothing resists");
    inside.wait().expect("ours");
    outside.wait().expect("ours");
}

/// The kernel takes links down only with their namespace, and a namespace only when nothing holds
/// it. So the link's disappearance at the other end shows that no socket or file was left open.
#[test]
fn nothing_of_ours_holds_a_namespace_that_is_deleted() {
    let Some(lab) = Lab::new() else { return };
    apply(&lab.topology()).expect("the plan is right");
    let (node, pod) = (lab.namespace("n1"), lab.namespace("p0"));
    stats::read(&pod).expect("is there");
    assert!(namespace::delete(&pod).expect("nothing resists"));
    let deadline = Instant::now() + Duration::from_secs(20);
    while stats::read(&node).expect("is there").contains_key("cali0") {
        assert!(Instant::now() < deadline, "the pod's namespace is still alive");
        std::thread::yield_now();
    }
    assert!(stats::read(&node).expect("is there").contains_key("cali1"));
}

#[test]
fn a_half_made_lab_goes_too() {
    let Some(lab) = Lab::new() else { return };
    namespace::create(&lab.namespace("whole")).expect("free");
    // As left by a process killed between the two steps of a name.
    let empty = lab.namespace("empty");
    File::create_new(namespace::path(&empty)).expect("free");
    assert!(!namespace::exists(&empty));
    assert!(namespace::id(&empty).is_err());
    assert!(namespace::enter(&empty).is_err());
    // Mounted twice, as by two tools that disagree about who made it.
    let twice = lab.namespace("twice");
    namespace::create(&twice).expect("free");
    let path = namespace::path(&twice);
    let flags = nix::mount::MsFlags::MS_BIND;
    nix::mount::mount(Some(&path), &path, None::<&str>, flags, None::<&str>).expect("root");

    let removed = remove(&lab.prefix()).expect("nothing resists");
    assert_eq!(removed.namespaces, [empty, twice, lab.namespace("whole")]);
    assert_eq!(namespace::list(&lab.prefix()).expect("readable"), [""; 0]);
}

#[test]
fn processes_started_by_those_that_are_ended_go_too() {
    let Some(lab) = Lab::new() else { return };
    let name = lab.namespace("n1");
    namespace::create(&name).expect("free");
    // Told to end, it first starts another.
    let script = "trap 'sleep 600 & exit' TERM; echo; while :; do sleep 1; done";
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = spawn_in(&name, &mut command).expect("sh is installed");
    let mut line = [0];
    let said = child.stdout.as_mut().expect("piped");
    std::io::Read::read_exact(said, &mut line).expect("one line");

    let home = namespace::id(&name).expect("is there");
    remove(&lab.prefix()).expect("nothing resists");
    assert_eq!(living_in(&[home]).expect("/proc"), []);
    child.wait().expect("ours");
}

#[test]
fn starting_what_is_not_there_names_it() {
    let Some(lab) = Lab::new() else { return };
    let name = lab.namespace("n1");
    let missing = spawn_in(&name, &mut Command::new("true")).expect_err("no namespace");
    assert!(matches!(missing, NetError::Namespace { .. }), "{missing}");
    namespace::create(&name).expect("free");
    let error = spawn_in(&name, &mut Command::new("/no/such/program")).expect_err("no program");
    assert!(error.to_string().starts_with("starting /no/such/program in"), "{error}");
}
