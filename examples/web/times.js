/** Times of several networks that run in turns. */

// Older rounds are forgotten, so that what is shown is of now.
const MOST_ROUNDS = 200;

/** The quartiles of some numbers, interpolated as NumPy does. */
export function quartiles(numbers) {
  const sorted = Float64Array.from(numbers).sort();
  const [low, median, high] = [0.25, 0.5, 0.75].map((share) => {
    const place = share * (sorted.length - 1);
    const below = Math.floor(place);
    const above = Math.ceil(place);
    return sorted[below] + (sorted[above] - sorted[below]) * (place - below);
  });
  return {low, median, high};
}

/**
 * Times of networks, by rounds.
 *
 * A round runs all networks in a random order, each of them twice, and counts the second
 * run: so what else the machine does slows all of them alike, and ratios of one round
 * tell more than times.
 */
export class Rounds {
  /** @param {Network[]} networks those to time; ratios are to the last one */
  constructor(networks) {
    this.networks = networks;
    this.rounds = [];
  }

  /** How many rounds there are. */
  get count() {
    return this.rounds.length;
  }

  /** Runs a round, and returns the scores of every network. */
  async run(pixels) {
    const order = this.networks.map((_, index) => index);
    for (let last = order.length - 1; last > 0; last--) {
      const other = Math.floor(Math.random() * (last + 1));
      [order[last], order[other]] = [order[other], order[last]];
    }
    const times = [];
    const scores = [];
    for (const index of order) {
      await this.networks[index].run(pixels);
      const result = await this.networks[index].run(pixels);
      times[index] = result.milliseconds;
      scores[index] = result.scores;
    }
    this.rounds.push(times);
    if (this.rounds.length > MOST_ROUNDS) {
      this.rounds.shift();
    }
    return scores;
  }

  /** Quartiles of the times in milliseconds, and of the ratios, for every network. */
  summary() {
    const last = this.networks.length - 1;
    return this.networks.map((_, index) => ({
      milliseconds: quartiles(this.rounds.map((times) => times[index])),
      ratio: quartiles(this.rounds.map((times) => times[index] / times[last])),
    }));
  }
}
