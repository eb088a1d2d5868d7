//! The engine among devices, with a network and a server that are honest or are not.

mod daemon;
mod guard;
mod network;
mod repair;
mod server;
mod story;
mod world;
