//! The tables of ipvs as `ipvsadm -Ln` with its options and `ipvsadm -Sn` print them.

use std::fmt::{self, Display, Formatter};
use std::net::Ipv4Addr;

use super::ipvs::{Columns, Connection, RealServer, Stats, Timeouts, VirtualServer};

/// What `ipvsadm -Ln` prints first; 4096 is the kernel's default size of the connection table.
const VERSION: &str = "IP Virtual Server version 1.2.1 (size=4096)";

/// What `ipvsadm -Lnc` prints first.
pub(super) const CONNECTIONS_HEADER: &str = "\
IPVS connection entries
pro expire state       source             virtual            destination
";

/// Prints the virtual servers of a node.
pub(super) fn servers(
    f: &mut Formatter<'_>,
    columns: Columns,
    servers: &[VirtualServer],
) -> fmt::Result {
    header(f, columns)?;
    for server in servers {
        match columns {
            Columns::Calls => calls(f, server)?,
            Columns::Stats => {
                let address = server.address.to_string();
                let protocol = server.protocol.to_uppercase();
                writeln!(f, "{protocol}  {address:<28}{}", Counters(&server.stats))?;
                for real in &server.destinations {
                    let address = real.address.to_string();
                    writeln!(f, "  -> {address:<28}{}", Counters(&real.stats))?;
                }
            }
            Columns::Connections => writeln!(f, "{server}")?,
            Columns::Persistent | Columns::Thresholds => {
                let protocol = server.protocol.to_uppercase();
                writeln!(
                    f,
                    "{protocol}  {} {}{}",
                    server.address,
                    server.scheduler,
                    Flags(server)
                )?;
                for real in &server.destinations {
                    real_server(f, columns, real)?;
                    writeln!(f)?;
                }
            }
        }
    }
    Ok(())
}

fn header(f: &mut Formatter<'_>, columns: Columns) -> fmt::Result {
    let (first, second) = match columns {
        Columns::Connections => (
            "Prot LocalAddress:Port Scheduler Flags",
            "RemoteAddress:Port           Forward Weight ActiveConn InActConn",
        ),
        Columns::Stats => (
            "Prot LocalAddress:Port               Conns   InPkts  OutPkts  InBytes OutBytes",
            "RemoteAddress:Port",
        ),
        Columns::Persistent => (
            "Prot LocalAddress:Port            Weight    PersistConn ActiveConn InActConn ",
            "RemoteAddress:Port",
        ),
        Columns::Thresholds => (
            "Prot LocalAddress:Port            Uthreshold Lthreshold ActiveConn InActConn ",
            "RemoteAddress:Port",
        ),
        Columns::Calls => return Ok(()),
    };
    writeln!(f, "{VERSION}\n{first}\n  -> {second}")
}

fn real_server(f: &mut Formatter<'_>, columns: Columns, real: &RealServer) -> fmt::Result {
    let address = real.address.to_string();
    let RealServer { weight, active_connections: active, inactive_connections: inactive, .. } =
        real;
    write!(f, "  -> {address:<28} ")?;
    match columns {
        Columns::Persistent => {
            write!(f, "{weight:<9} {:<11}", real.persistent_connections)?;
        }
        Columns::Thresholds => {
            write!(f, "{:<10} {:<10}", real.upper_threshold, real.lower_threshold)?;
        }
        _ => write!(f, "{:<7} {weight:<6}", real.forward)?,
    }
    write!(f, " {active:<10} {inactive:<10}")
}

/// The calls that make a virtual server.
fn calls(f: &mut Formatter<'_>, server: &VirtualServer) -> fmt::Result {
    let kind = if server.protocol == "udp" { 'u' } else { 't' };
    let address = server.address;
    write!(f, "-A -{kind} {address} -s {}", server.scheduler)?;
    if let Some(persistence) = &server.persistence {
        write!(f, " -p {}", persistence.timeout)?;
        if persistence.mask != Ipv4Addr::BROADCAST {
            write!(f, " -M {}", persistence.mask)?;
        }
    }
    if server.one_packet {
        f.write_str(" -o")?;
    }
    if !server.scheduler_flags.is_empty() {
        write!(f, " -b {}", server.scheduler_flags.join(","))?;
    }
    writeln!(f)?;
    for real in &server.destinations {
        writeln!(f, "-a -{kind} {address} -r {} -m -w {}", real.address, real.weight)?;
    }
    Ok(())
}

/// Its lines of `ipvsadm -Ln`, the last one without an end.
impl Display for VirtualServer {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol.to_uppercase();
        write!(f, "{protocol}  {} {}{}", self.address, self.scheduler, Flags(self))?;
        self.destinations.iter().try_for_each(|real| {
            writeln!(f)?;
            real_server(f, Columns::Connections, real)
        })
    }
}

/// What follows a scheduler's name.
struct Flags<'a>(&'a VirtualServer);

impl Display for Flags<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let VirtualServer { scheduler_flags, persistence, one_packet, .. } = self.0;
        if !scheduler_flags.is_empty() {
            write!(f, " ({})", scheduler_flags.join(","))?;
        }
        if let Some(persistence) = persistence {
            write!(f, " persistent {}", persistence.timeout)?;
            if persistence.mask != Ipv4Addr::BROADCAST {
                write!(f, " mask {}", persistence.mask)?;
            }
        }
        if *one_packet { f.write_str(" ops") } else { Ok(()) }
    }
}

/// The columns of `--stats`.
struct Counters<'a>(&'a Stats);

impl Display for Counters<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Stats { connections, in_packets, out_packets, in_bytes, out_bytes } = *self.0;
        let counters = [connections, in_packets, out_packets, in_bytes, out_bytes];
        counters.into_iter().try_for_each(|counter| write!(f, " {:>8}", in_eight(counter)))
    }
}

/// A number in at most eight digits, in thousands, millions and so on where it has more.
fn in_eight(number: u64) -> String {
    const UNITS: [(u64, u64, &str); 4] = [
        (100_000_000, 1, ""),
        (1_000_000_000, 1_000, "K"),
        (100_000_000_000, 1_000_000, "M"),
        (100_000_000_000_000, 1_000_000_000, "G"),
    ];
    let unit = UNITS.iter().find(|(below, ..)| number < *below);
    let (_, divisor, letter) = unit.unwrap_or(&(u64::MAX, 1_000_000_000_000, "T"));
    format!("{}{letter}", number / divisor)
}

impl Display for Timeouts {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Self { tcp, tcp_fin, udp } = self;
        write!(f, "Timeout (tcp tcpfin udp): {tcp} {tcp_fin} {udp}")
    }
}

impl Display for Connection {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let protocol = self.protocol.to_uppercase();
        let expires = format!("{:02}:{:02}", self.expires / 60, self.expires % 60);
        let (source, virtual_address) = (self.source.to_string(), self.virtual_address.to_string());
        write!(
            f,
            "{protocol:<3} {expires:<6} {:<11} {source:<18} {virtual_address:<18} ",
            self.state
        )?;
        if let Some(local) = self.local_address {
            write!(f, "{:<18} ", local.to_string())?;
        }
        write!(f, "{}", self.destination)
    }
}
