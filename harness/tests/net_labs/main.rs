//! Labs' networks on the real kernel, looked at through iproute2.

mod build;
mod support;
mod teardown;
