//! Scenarios in memory: the command, and the hosts they are played by.

mod command;
mod hosts;
