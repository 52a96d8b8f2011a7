package keras_shift.example

import android.content.res.AssetManager
import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel

/**
 * A float32 file whose input is pixel values from 0 to 255 as they are, and whose output is
 * the probability of every class. It runs on one thread of the processor.
 */
class Network(assets: AssetManager, val name: String, file: String) : AutoCloseable {
    private val model = CompiledModel.create(assets, file, options())
    private val inputs = model.createInputBuffers()
    private val outputs = model.createOutputBuffers()
    val times = Times()

    /** Probabilities, and how long the network took alone. */
    class Result(val scores: FloatArray, val milliseconds: Double)

    fun run(pixels: FloatArray): Result {
        inputs[0].writeFloat(pixels)
        val start = System.nanoTime()
        model.run(inputs, outputs)
        // What runs asynchronously has ended when the output can be read.
        val scores = outputs[0].readFloat()
        return Result(scores, (System.nanoTime() - start) / 1e6)
    }

    override fun close() {
        (inputs + outputs).forEach { it.close() }
        model.close()
    }

    private companion object {
        fun options() =
            CompiledModel.Options(Accelerator.CPU).apply {
                cpuOptions = CompiledModel.CpuOptions(numThreads = 1)
            }
    }
}
