//! Scenarios on AF_XDP: a private lab in namespaces, a real nginx, a real curl.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::Args;
use datapath::lab::Lab;
use datapath::link::{ElementId, HostId, Socket, ports_of};

use super::client::{self, Client, Life};
use super::private;
use super::protocol::{Ledger, Request as Ask};
use super::report::{LinkReport, PortReport};
use super::topology::{host_ip, host_namespace, port_name};
use super::worker::Forwarding;
use crate::journey::{PortCount, Recording};
use crate::net::{namespace, process};
use crate::scenario::{Answer, Datapath, Request, Session};

/// Hops kept of each element.
const HOPS: usize = 65_536;
/// How long a server may take to listen.
const STARTING: Duration = Duration::from_secs(10);
/// How long connections are given to end after the answer, and how long they must have been
/// silent to have ended.
const ENDING: Duration = Duration::from_secs(5);
const SILENCE: Duration = Duration::from_millis(200);
/// Between the page and the status in what curl prints.
const MARK: &str = "\ntrunkline-status:";

/// The datapath on AF_XDP sockets.
#[derive(Clone, Copy, Debug, Default, Args)]
pub struct AfXdp {
    /// How the lab is forwarded.
    #[command(flatten)]
    pub forwarding: Forwarding,
}

impl Datapath for AfXdp {
    fn name(&self) -> &'static str {
        "afxdp"
    }

    fn start(&self, lab: &Lab, text: &str) -> anyhow::Result<Box<dyn Session>> {
        let name = private::name();
        private::sweep()?;
        let client = client::up(&name, text, self.forwarding, Life::Tied)?;
        let mut session = LiveSession {
            lab: self.forwarding.of(lab.clone()),
            client,
            servers: Vec::new(),
            before: Vec::new(),
            down: false,
        };
        session.client.ask(Ask::JournalOpen { limit: HOPS })?;
        session.before = session.client.ledger()?.ports;
        Ok(Box::new(session))
    }
}

/// A private lab, taken down when dropped.
struct LiveSession {
    lab: Lab,
    client: Client,
    servers: Vec<Child>,
    /// The books when the journals were opened.
    before: Vec<PortReport>,
    down: bool,
}

impl LiveSession {
    fn namespace(&self, host: HostId) -> anyhow::Result<String> {
        host_namespace(self.client.state().name(), &self.lab, host).context("no such host")
    }

    fn folder(&self, what: &str) -> anyhow::Result<PathBuf> {
        let folder = self.client.state().folder().join(what);
        fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        Ok(folder)
    }

    /// The books once the wires have been silent for a while.
    fn settled(&self) -> anyhow::Result<Ledger> {
        let deadline = Instant::now() + ENDING;
        let mut last = self.client.ledger()?;
        let mut since = Instant::now();
        while since.elapsed() < SILENCE {
            let ledger = self.client.ledger()?;
            if ledger.elements != last.elements {
                if Instant::now() > deadline {
                    bail!("the lab's wires do not fall silent");
                }
                since = Instant::now();
            }
            last = ledger;
        }
        Ok(last)
    }

    fn take_down(&mut self) -> anyhow::Result<()> {
        if self.down {
            return Ok(());
        }
        self.stop_servers()?;
        self.client.down()?;
        self.down = true;
        Ok(())
    }

    fn stop_servers(&mut self) -> anyhow::Result<()> {
        for mut server in self.servers.drain(..) {
            server.kill()?;
            server.wait()?;
        }
        Ok(())
    }

    /// What `ip -s link` has counted at each port since the journals were opened.
    fn port_counts(&self, ledger: &Ledger) -> anyhow::Result<Vec<PortCount>> {
        let mut counts = Vec::new();
        for element in ElementId::all(&self.lab) {
            for (port, _) in ports_of(&self.lab, element) {
                let socket = Socket { element, port };
                let before = self.report(&self.before, socket)?;
                let after = self.report(&ledger.ports, socket)?;
                let wire = since(before.link, after.link);
                if let (Some(before), Some(after)) = (before.far, after.far) {
                    let far = since(before, after);
                    if (far.rx_packets, far.tx_packets) != (wire.tx_packets, wire.rx_packets) {
                        let port = port_name(&self.lab, socket);
                        bail!("the two ends of {port}'s wire disagree: {wire:?}, {far:?}");
                    }
                }
                counts.push(PortCount { socket, received: wire.rx_packets, sent: wire.tx_packets });
            }
        }
        Ok(counts)
    }

    fn report<'a>(
        &self,
        ports: &'a [PortReport],
        socket: Socket,
    ) -> anyhow::Result<&'a PortReport> {
        let (element, port) = (socket.element.name(&self.lab), port_name(&self.lab, socket));
        let found = ports.iter().find(|p| p.element == element && p.port == port);
        found.with_context(|| format!("the books have no port {port} of {element}"))
    }
}

/// What was counted between two readings.
const fn since(before: LinkReport, after: LinkReport) -> LinkReport {
    LinkReport {
        rx_packets: after.rx_packets - before.rx_packets,
        tx_packets: after.tx_packets - before.tx_packets,
        rx_dropped: after.rx_dropped - before.rx_dropped,
        tx_dropped: after.tx_dropped - before.tx_dropped,
    }
}

impl Session for LiveSession {
    fn serve(&mut self, host: HostId, port: u16, page: &str) -> anyhow::Result<()> {
        let place = self.namespace(host)?;
        let ip = host_ip(&self.lab, host).context("no such host")?;
        let folder = self.folder(&format!("nginx-{}", self.servers.len()))?;
        fs::write(folder.join("page"), page).context("write the page")?;
        let conf = folder.join("nginx.conf");
        fs::write(&conf, nginx_conf(&folder.display().to_string(), ip, port))?;
        let mut command = Command::new("nginx");
        command.arg("-p").arg(&folder).arg("-c").arg(&conf).arg("-e").arg(folder.join("error.log"));
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut server = process::spawn_in(&place, &mut command)?;
        let listens = wait_until_it_listens(&place, &mut server, ip, port);
        self.servers.push(server);
        listens.with_context(|| fs::read_to_string(folder.join("error.log")).unwrap_or_default())
    }

    fn fetch(&mut self, request: &Request) -> anyhow::Result<Answer> {
        let place = self.namespace(request.client)?;
        let seconds = request.max_time.as_secs_f64().to_string();
        let mut command = Command::new("curl");
        command.args(["-sS", "--noproxy", "*", "--max-time", &seconds, "-w"]);
        command.arg(format!("{MARK}%{{http_code}}")).arg(request.url.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let output = process::spawn_in(&place, &mut command)?.wait_with_output()?;
        let printed = String::from_utf8_lossy(&output.stdout).into_owned();
        let (body, status) = printed.rsplit_once(MARK).unwrap_or((&printed, "000"));
        let status = status.trim().parse().ok().filter(|status| *status > 0);
        let error = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        Ok(Answer {
            exit: output.status.code().context("curl was killed")?,
            status,
            body: status.is_some().then(|| body.to_owned()),
            error: (!error.is_empty()).then_some(error),
        })
    }

    fn finish(mut self: Box<Self>) -> anyhow::Result<Recording> {
        // One that still answers a client which has given up sends again after seconds of silence,
        // perhaps just between a look at the journals and one at the counters.
        self.stop_servers()?;
        let ledger = self.settled()?;
        let hops = self.client.close_journals()?;
        if let Some(imbalance) = ledger.imbalances.first() {
            bail!("frames are not conserved: {imbalance}");
        }
        let named = |id: ElementId| {
            let report = ledger.elements.get(id.name(&self.lab))?;
            Some((id, report.clone()))
        };
        let ledgers = ElementId::all(&self.lab).filter_map(named).collect();
        let ports = self.port_counts(&ledger)?;
        self.take_down()?;
        Ok(Recording { hops, ledgers, ports, frames_only: false })
    }
}

impl Drop for LiveSession {
    fn drop(&mut self) {
        if let Err(error) = self.take_down() {
            tracing::error!(%error, "a private lab could not be taken down");
        }
    }
}

/// An nginx that needs no service of its package: one process, its files in `folder`, one page.
fn nginx_conf(folder: &str, ip: Ipv4Addr, port: u16) -> String {
    format!(
        "daemon off; master_process off; pid {folder}/pid;
         events {{ worker_connections 64; }}
         http {{
             access_log off;
             client_body_temp_path {folder}/body;
             proxy_temp_path {folder}/proxy;
             fastcgi_temp_path {folder}/fastcgi;
             uwsgi_temp_path {folder}/uwsgi;
             scgi_temp_path {folder}/scgi;
             server {{
                 listen {ip}:{port};
                 root {folder};
                 location / {{ default_type text/plain; try_files /page =404; }}
             }}
         }}
"
    )
}

/// Connects from the server's namespace itself, by its loopback, until somebody answers.
fn wait_until_it_listens(
    place: &str,
    server: &mut Child,
    ip: Ipv4Addr,
    port: u16,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + STARTING;
    let address = SocketAddr::from((ip, port));
    while Instant::now() < deadline {
        let connects =
            namespace::run_in(place, || TcpStream::connect_timeout(&address, STARTING).is_ok())?;
        if connects {
            return Ok(());
        }
        if let Some(status) = server.try_wait()? {
            bail!("nginx ended with {status}");
        }
    }
    bail!("nginx does not listen on {address}")
}
