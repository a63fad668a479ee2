//! What two plans of one model order otherwise: rows of heads that rotate in pairs instead of halves, and value heads
//! that lie in rounds over the key heads instead of grouped by them.

use crate::plan::{Delta, Keys, Linear, Mixer, Plan, TensorId};
use crate::rope::Rope;
use sampan_kernels::delta::KeyHeads;
use sampan_kernels::ops::Pairing;
use std::collections::HashMap;

/// Where the rows (or columns) of a tensor of the checkpoint's plan are in the file's.
#[derive(Clone, Debug)]
pub(crate) enum Order {
    /// Row `i` is row `list[i]`; of a vector, number `i`.
    Rows(Vec<usize>),
    /// Column `i` is column `list[i]`.
    Columns(Vec<usize>),
}

/// By tensor; those that are not in it keep their order.
pub(super) type Orders = HashMap<TensorId, Order>;

/// Compares the mixers of two plans.
pub(super) fn orders(plan: &Plan, drafted: &Plan) -> Orders {
    let mut orders = Orders::new();
    for (layer, drafted) in plan.layers.iter().zip(&drafted.layers) {
        match (&layer.mixer, &drafted.mixer) {
            (Mixer::Attention(from), Mixer::Attention(to)) if from.pairing != to.pairing => {
                let head = head(&plan.ropes[from.rope], from.key_dim, from.pairing);
                rows(&mut orders, from.q, &repeated(&head, from.heads));
                let norms = match &from.keys {
                    Keys::Own { k, k_norm, .. } => {
                        rows(&mut orders, *k, &repeated(&head, from.kv_heads));
                        [&from.q_norm, k_norm]
                    }
                    Keys::Shared { .. } => [&from.q_norm, &None],
                };
                for weight in norms.into_iter().flatten().filter_map(|norm| norm.weight) {
                    orders.insert(weight, Order::Rows(head.clone()));
                }
            }
            (Mixer::Delta(from), Mixer::Delta(to)) if from.shape.order != to.shape.order => {
                delta(&mut orders, from);
            }
            _ => {}
        }
    }
    orders
}

fn rows(orders: &mut Orders, linear: Linear, list: &[usize]) {
    for id in linear.tensors() {
        orders.insert(id, Order::Rows(list.to_vec()));
    }
}

/// Where the rows of a head go when its rotating halves become pairs, or the other way round.
fn head(rope: &Rope, dim: usize, from: Pairing) -> Vec<usize> {
    let half = rope.frequencies.len();
    let to = |row: usize| match from {
        _ if row >= 2 * half => row,
        Pairing::Half => 2 * (row % half) + row / half,
        _ => row / 2 + row % 2 * half,
    };
    (0..dim).map(to).collect()
}

/// A head's order for `count` heads.
fn repeated(head: &[usize], count: usize) -> Vec<usize> {
    (0..count).flat_map(|h| head.iter().map(move |row| h * head.len() + row)).collect()
}

/// The value heads of a delta rule, wherever they are rows, numbers or columns.
fn delta(orders: &mut Orders, delta: &Delta) {
    let shape = &delta.shape;
    let (keys, each) = (shape.key_heads, shape.value_heads / shape.key_heads);
    let place = |head: usize| match shape.order {
        KeyHeads::Grouped => head % each * keys + head / each,
        KeyHeads::Tiled => head % keys * each + head / keys,
    };
    let heads = |width: usize, first: usize| -> Vec<usize> {
        let values = (0..shape.value_heads).flat_map(|h| (0..width).map(move |i| (h, i)));
        (0..first).chain(values.map(|(h, i)| first + place(h) * width + i)).collect()
    };
    let channels = heads(shape.value_dim, 2 * shape.key_heads * shape.key_dim);
    let (wide, single) = (heads(shape.value_dim, 0), heads(1, 0));
    rows(orders, delta.qkv, &channels);
    rows(orders, delta.z, &wide);
    rows(orders, delta.a, &single);
    rows(orders, delta.b, &single);
    for &tap in &delta.taps {
        orders.insert(tap, Order::Rows(channels.clone()));
    }
    for id in [delta.neg_exp_a, delta.dt_bias] {
        orders.insert(id, Order::Rows(single.clone()));
    }
    orders.insert(delta.o.weight, Order::Columns(wide));
}
