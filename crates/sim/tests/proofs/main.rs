//! Proofs about sessions in virtual time, one file for each kind of behaviour.

mod access;
mod bounds;
mod common;
mod consent;
mod dead_servers;
mod defects;
mod first_path;
mod hostile;
mod late_peer;
mod lite;
mod loss;
mod mobility;
mod mux;
mod nat;
mod network;
mod relay;
mod replay;
mod restart;
mod restart_unheard;
mod roles;
mod selection;
mod tcp;
mod translator;
mod trickle;
mod turn;
mod world;
