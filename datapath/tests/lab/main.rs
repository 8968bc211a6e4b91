//! Lab files: what they mean, and what is wrong with them.

mod fnat;
mod fuzz;
mod load;
mod mistakes_cluster;
mod mistakes_machines;
mod mistakes_vpc;
mod support;
