//! XDP programs.
