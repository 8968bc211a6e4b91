//! Waiting until links carry frames.
//!
//! The kernel brings a link up in two steps. The second, in which a link gets the queue its
//! frames leave by, is done by a worker some time after both ends of a veth were set up, and until
//! then whatever is sent is thrown away without a word. A lab is ready when that is behind it.

use std::collections::BTreeSet;
use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::NetlinkPayload;
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::packet_route::link::{LinkAttribute, LinkMessage, State};
use tokio::runtime::Runtime;

use super::error::NetError;
use super::namespace::failed;

/// How long links may take. The worker needs microseconds; a busy machine makes it wait its turn.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing is told before links are looked at again: of many changes at one time the kernel
/// throws some away.
const SILENCE: Duration = Duration::from_millis(200);

/// Waits until each of the links `waited` of the calling thread's namespace, `name`, carries
/// frames. Both ends of each have been set up.
pub(super) fn wait(
    runtime: &Runtime,
    name: &str,
    mut waited: BTreeSet<&str>,
) -> Result<(), NetError> {
    let refused = |cause: std::io::Error| failed(name, "wait for its links", cause);
    let arrived = async {
        // Subscribed first and asked then, so that no change falls in between.
        let (driver, handle, mut changes) =
            rtnetlink::new_multicast_connection(&[MulticastGroup::Link]).map_err(refused)?;
        let driver = tokio::spawn(driver);
        loop {
            let links = handle.link().get().execute().try_collect::<Vec<_>>().await;
            let links = links.map_err(|e| refused(std::io::Error::other(e.to_string())))?;
            for link in &links {
                strike(&mut waited, link);
            }
            while !waited.is_empty()
                && let Ok(Some((message, _))) = tokio::time::timeout(SILENCE, changes.next()).await
            {
                if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) =
                    message.payload
                {
                    strike(&mut waited, &link);
                }
            }
            if waited.is_empty() {
                break;
            }
        }
        // An open socket keeps its namespace alive: the driver closes it once nobody asks.
        drop((handle, changes));
        let _ = driver.await;
        Ok(())
    };
    let timed = async { tokio::time::timeout(PATIENCE, arrived).await };
    match runtime.block_on(timed) {
        Ok(done) => done,
        Err(_) => Err(refused(std::io::ErrorKind::TimedOut.into())),
    }
}

/// Strikes a link off the list if it is up.
fn strike(waited: &mut BTreeSet<&str>, link: &LinkMessage) {
    let up = link.attributes.contains(&LinkAttribute::OperState(State::Up));
    let name = link.attributes.iter().find_map(|attribute| match attribute {
        LinkAttribute::IfName(name) => Some(name.as_str()),
        _ => None,
    });
    if up && let Some(name) = name {
        waited.remove(name);
    }
}
