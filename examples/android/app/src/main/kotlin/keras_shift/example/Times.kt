package keras_shift.example

/** The latest times of one network, of which older ones are forgotten. */
class Times(private val most: Int = 200) {
    private val latest = ArrayDeque<Double>()

    fun add(milliseconds: Double) {
        if (latest.size == most) latest.removeFirst()
        latest.addLast(milliseconds)
    }

    /** The number that a share of the times does not exceed, interpolated as NumPy does. */
    fun quantile(share: Double): Double {
        val sorted = latest.sorted()
        val place = share * (sorted.size - 1)
        val below = place.toInt()
        val above = minOf(below + 1, sorted.size - 1)
        return sorted[below] + (sorted[above] - sorted[below]) * (place - below)
    }
}
