//! A netlink connection to one namespace, used one request at a time.

use std::future::Future;
use std::io;

use rtnetlink::Handle;
use rtnetlink::packet_core::{ErrorMessage, NlaBuffer, NlasIterator};
use rtnetlink::sys::AsyncSocket;
use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

use super::error::{NetError, Refusal};

/// Length of the header of the refused request, which comes before the attributes.
const NLMSG_HEADER_LEN: usize = 16;

/// Type of the attribute that carries the kernel's own words about an error.
const NLMSGERR_ATTR_MSG: u16 = 1;

/// A runtime for the calling thread; connections of that thread share it.
pub(super) fn runtime() -> Result<Runtime, NetError> {
    Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|cause| NetError::Own { attempt: "starting a runtime", cause })
}

/// An open connection to the namespace the thread was in when it was opened.
///
/// An open socket keeps its namespace alive, so a connection closes its socket before it is gone.
pub(super) struct Connection<'r> {
    runtime: &'r Runtime,
    handle: Option<Handle>,
    driver: Option<JoinHandle<()>>,
}

impl<'r> Connection<'r> {
    /// Opens a connection to the calling thread's namespace.
    pub(super) fn open(runtime: &'r Runtime) -> io::Result<Self> {
        let _inside = runtime.enter();
        let (mut driver, handle, _) = rtnetlink::new_connection()?;
        // With both, an error carries the kernel's own words right behind the header.
        let socket = driver.socket_mut().socket_mut();
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        Ok(Self { runtime, handle: Some(handle), driver: Some(runtime.spawn(driver)) })
    }

    /// What requests are made with.
    pub(super) fn handle(&self) -> &Handle {
        self.handle.as_ref().expect("the handle is taken only on drop")
    }

    /// Waits for the answer to a request.
    pub(super) fn wait<T>(
        &self,
        request: impl Future<Output = Result<T, rtnetlink::Error>>,
    ) -> Result<T, Refusal> {
        self.runtime.block_on(request).map_err(refusal)
    }
}

impl Drop for Connection<'_> {
    fn drop(&mut self) {
        // The driver ends, and closes the socket, once no handle is left to make requests.
        drop(self.handle.take());
        if let Some(driver) = self.driver.take() {
            // It has no result; a panic in it has been reported where it happened.
            let _ = self.runtime.block_on(driver);
        }
    }
}

fn refusal(error: rtnetlink::Error) -> Refusal {
    match error {
        rtnetlink::Error::NetlinkError(message) => {
            Refusal { reason: words(&message), error: message.to_io() }
        }
        other => Refusal::from(io::Error::other(other.to_string())),
    }
}

/// The kernel's own words about an error: "Nexthop has invalid gateway" says more than "Network
/// is unreachable".
fn words(message: &ErrorMessage) -> Option<String> {
    let attributes = message.header.get(NLMSG_HEADER_LEN..)?;
    let text = NlasIterator::new(attributes)
        .filter_map(Result::ok)
        .find(|attribute: &NlaBuffer<&[u8]>| attribute.kind() == NLMSGERR_ATTR_MSG)?;
    let text = String::from_utf8_lossy(text.value());
    Some(text.trim_end_matches('\0').to_owned())
}
