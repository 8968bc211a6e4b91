//! The VPC, frame by frame.

mod forward;
mod fragments;
mod groups;
mod learned;
mod properties;
mod slb;
mod support;
