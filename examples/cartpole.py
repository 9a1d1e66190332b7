"""A pole balanced on a cart by policy gradients (PPO): the loss is NumPy, forward, backward and Adam are fastnn.

    python examples/cartpole.py [--seeds 0 1 2 3 4] [--out FILE.png]

The task is CartPole-v1 of Gymnasium, written here in NumPy (Barto, Sutton and Anderson 1983): a reward of 1 a step, and
at most 500 steps. It counts as solved when the last 100 episodes have a mean of 475. The method is proximal policy
optimisation (Schulman et al. 2017) with generalised advantages (Schulman et al. 2016). --out draws the returns (extra
`plots`).
"""

import argparse
import time
from collections import deque

import numpy as np

import fastnn

LIMIT, SOLVED = 500, 475.0
ENVIRONMENTS, STEPS, EPOCHS, BATCH = 8, 128, 4, 64  # steps of each environment between updates; rows of a step
MOST_STEPS = 600_000
DISCOUNT, SMOOTHING, CLIP, ENTROPY, RATE = 0.99, 0.95, 0.2, 0.01, 1e-3


class CartPoles:
    """Some carts with a pole each: state (n, 4) of position, velocity, angle, angular velocity."""

    def __init__(self, n, rng):
        self.rng, self.state, self.age = rng, rng.uniform(-0.05, 0.05, (n, 4)), np.zeros(n, int)

    def step(self, actions):
        """(the next states, which of them have failed, which are at the limit); those begin anew in `state`."""
        _, v, angle, spin = self.state.T
        force, cos, sin = np.where(actions == 1, 10.0, -10.0), np.cos(angle), np.sin(angle)
        pushed = (force + 0.05 * spin**2 * sin) / 1.1
        bent = (9.8 * sin - cos * pushed) / (0.5 * (4 / 3 - 0.1 * cos**2 / 1.1))
        moved = pushed - 0.05 * bent * cos / 1.1
        after = self.state + 0.02 * np.stack([v, moved, spin, bent], axis=1)
        self.age += 1
        failed = (np.abs(after[:, 0]) > 2.4) | (np.abs(after[:, 2]) > 12 * 2 * np.pi / 360)
        stopped = ~failed & (self.age >= LIMIT)
        ended = failed | stopped
        self.state = after.copy()
        self.state[ended] = self.rng.uniform(-0.05, 0.05, (ended.sum(), 4))
        self.age[ended] = 0
        return after, failed, stopped


def log_probabilities(logits):
    """The logarithm of each action's probability, (n, 2)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


def policy_gradient(logits, actions, old, advantages):
    """The derivative of PPO's clipped loss, less some of the entropy, by the logits; `old` are log probabilities."""
    n, logs = len(logits), log_probabilities(logits)
    p, taken = np.exp(logs), np.eye(2, dtype=np.float32)[actions]
    ratio = np.exp((logs * taken).sum(axis=1) - old)
    inside = np.where(advantages > 0, ratio < 1 + CLIP, ratio > 1 - CLIP)
    weights = -(inside * ratio * advantages)[:, None]
    entropy = -(p * logs).sum(axis=1, keepdims=True)
    return (weights * (taken - p) + ENTROPY * p * (logs + entropy)) / n


def collect(poles, actor, critic, rng, ended):
    """STEPS steps of each cart: (states, actions, log probabilities, advantages, returns), all flat."""
    shape = STEPS, ENVIRONMENTS
    states, actions = np.empty((*shape, 4), np.float32), np.empty(shape, int)
    logs, values = np.empty(shape, np.float32), np.empty((STEPS + 1, ENVIRONMENTS), np.float32)
    rewards, cut = np.ones(shape, np.float32), np.empty(shape, bool)
    for t in range(STEPS):
        states[t] = poles.state
        both = log_probabilities(actor.predict(states[t]))
        values[t] = critic.predict(states[t])[:, 0]
        actions[t] = rng.random(ENVIRONMENTS) < np.exp(both[:, 1])
        logs[t] = np.take_along_axis(both, actions[t][:, None], axis=1)[:, 0]
        ages = poles.age + 1
        after, failed, stopped = poles.step(actions[t])
        if stopped.any():  # the time was up, and nothing was wrong: what would have followed counts
            rewards[t, stopped] += DISCOUNT * critic.predict(after[stopped].astype(np.float32))[:, 0]
        cut[t] = failed | stopped
        ended.extend(ages[cut[t]])
    values[STEPS] = critic.predict(poles.state.astype(np.float32))[:, 0]
    advantages, later = np.empty(shape, np.float32), np.zeros(ENVIRONMENTS)
    for t in reversed(range(STEPS)):
        surprise = rewards[t] + DISCOUNT * values[t + 1] * ~cut[t] - values[t]
        later = surprise + DISCOUNT * SMOOTHING * later * ~cut[t]
        advantages[t] = later
    returns = advantages + values[:STEPS]
    return states.reshape(-1, 4), actions.ravel(), logs.ravel(), advantages.ravel(), returns.ravel()


def train(seed):
    """(steps, seconds, the means of the last 100 episodes by steps) until it is solved, or MOST_STEPS."""
    rng = np.random.default_rng(seed)
    hidden = {"activation": "tanh", "output": "identity"}
    actor = fastnn.Model([4, 64, 64, 2], init=["orthogonal"] * 3, rng=seed, **hidden)
    critic = fastnn.Model([4, 64, 64, 1], init=["orthogonal"] * 3, rng=seed, **hidden)
    actor.weights[-1][...] *= 0.01  # so that both actions are as likely at first
    adam = fastnn.Adam(RATE, epsilon=1e-5, clip_norm=0.5)
    poles, ended, curve, start = CartPoles(ENVIRONMENTS, rng), deque(maxlen=100), [], time.perf_counter()
    for done in range(0, MOST_STEPS, STEPS * ENVIRONMENTS):
        states, actions, old, advantages, returns = collect(poles, actor, critic, rng, ended)
        for _ in range(EPOCHS):
            for rows in rng.permutation(len(states)).reshape(-1, BATCH):
                X, advantage = states[rows], advantages[rows]
                advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
                gradient = policy_gradient(actor.forward(X), actions[rows], old[rows], advantage)
                actor.step(X, gradient, optimizer=adam)
                error = critic.forward(X) - returns[rows, None]
                critic.step(X, error / len(X), optimizer=adam)
        curve.append((done + len(states), np.mean(ended) if ended else 0.0))
        if len(ended) == 100 and curve[-1][1] >= SOLVED:
            break
    return curve[-1][0], time.perf_counter() - start, curve


def draw(curves, path):
    """The mean of the last 100 episodes, by steps, for each seed."""
    import matplotlib.pyplot as plt

    figure, ax = plt.subplots(figsize=(6, 4), layout="constrained")
    for seed, curve in curves.items():
        ax.plot(*zip(*curve, strict=True), label=f"seed {seed}")
    ax.axhline(SOLVED, color="0.6", linewidth=1)
    ax.set(xlabel="steps", ylabel="mean return of the last 100 episodes")
    ax.legend()
    figure.savefig(path)
    print(f"wrote {path}")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4], help="default: 0 to 4")
    parser.add_argument("--out", metavar="FILE", help="draw a picture")
    arguments = parser.parse_args()
    curves, solved = {}, 0
    for seed in arguments.seeds:
        steps, seconds, curves[seed] = train(seed)
        solved += curves[seed][-1][1] >= SOLVED
        print(f"seed {seed}: mean {curves[seed][-1][1]:.1f} after {steps:,} steps, {seconds:.1f} s", flush=True)
    print(f"solved: {solved} of {len(curves)}")
    if arguments.out:
        draw(curves, arguments.out)


if __name__ == "__main__":
    main()
