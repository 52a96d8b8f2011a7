package keras_shift.example

import android.Manifest
import android.content.pm.PackageManager
import android.os.Bundle
import android.widget.TextView
import androidx.activity.ComponentActivity
import androidx.activity.result.contract.ActivityResultContracts
import androidx.camera.core.CameraSelector
import androidx.camera.core.ImageAnalysis
import androidx.camera.core.ImageProxy
import androidx.camera.core.Preview
import androidx.camera.lifecycle.ProcessCameraProvider
import androidx.camera.view.PreviewView
import androidx.core.content.ContextCompat
import java.util.concurrent.Executors

private const val IMAGE_SIZE = 64
private const val TOP = 5

/** Shows what both networks see in the camera's pictures, and how long they take. */
class MainActivity : ComponentActivity() {
    // The networks live on this thread alone.
    private val worker = Executors.newSingleThreadExecutor()
    private var networks = emptyList<Network>()
    private var labels = emptyList<String>()
    private lateinit var result: TextView

    private val permission =
        registerForActivityResult(ActivityResultContracts.RequestPermission()) { granted ->
            if (granted) startCamera() else result.setText(R.string.no_permission)
        }

    override fun onCreate(savedInstanceState: Bundle?) {
        super.onCreate(savedInstanceState)
        setContentView(R.layout.main)
        result = findViewById(R.id.result)
        worker.execute { guarded { loadNetworks() } }
        val allowed = ContextCompat.checkSelfPermission(this, Manifest.permission.CAMERA)
        if (allowed == PackageManager.PERMISSION_GRANTED) {
            startCamera()
        } else {
            permission.launch(Manifest.permission.CAMERA)
        }
    }

    override fun onDestroy() {
        super.onDestroy()
        worker.execute { networks.forEach { it.close() } }
        worker.shutdown()
    }

    private fun loadNetworks() {
        labels = assets.open("labels.txt").bufferedReader().use { it.readLines() }
        networks =
            listOf(
                Network(assets, "FE-Net 0.75", "fenet.tflite"),
                Network(assets, "MobileNetV2", "mobilenet_v2.tflite"),
            )
    }

    private fun startCamera() {
        val future = ProcessCameraProvider.getInstance(this)
        future.addListener(
            {
                guarded {
                    val preview = Preview.Builder().build()
                    val view = findViewById<PreviewView>(R.id.preview)
                    preview.setSurfaceProvider(view.surfaceProvider)
                    val analysis =
                        ImageAnalysis.Builder()
                            .setOutputImageFormat(ImageAnalysis.OUTPUT_IMAGE_FORMAT_RGBA_8888)
                            .build()
                    analysis.setAnalyzer(worker) { image ->
                        image.use { guarded { classify(it) } }
                    }
                    future.get().bindToLifecycle(
                        this,
                        CameraSelector.DEFAULT_BACK_CAMERA,
                        preview,
                        analysis,
                    )
                }
            },
            ContextCompat.getMainExecutor(this),
        )
    }

    private fun classify(image: ImageProxy) {
        // If they could not be loaded, the screen says why.
        if (networks.isEmpty()) return
        val turned = image.imageInfo.rotationDegrees
        val pixels = pixelsOf(image.toBitmap(), image.cropRect, turned, IMAGE_SIZE)
        // In a random order, and the second run counts: so what else the phone does slows
        // all of them alike.
        val scores =
            networks.shuffled().associateWith { network ->
                network.run(pixels)
                val result = network.run(pixels)
                network.times.add(result.milliseconds)
                result.scores
            }
        show(networks.joinToString("\n\n") { described(it, scores.getValue(it)) })
    }

    private fun described(network: Network, scores: FloatArray): String {
        val (low, median, high) = listOf(0.25, 0.5, 0.75).map(network.times::quantile)
        val title = "%s: %.2f ms (%.2f to %.2f)".format(network.name, median, low, high)
        val best = scores.indices.sortedByDescending { scores[it] }.take(TOP)
        val lines = best.map { "%5.1f%%  %s".format(100 * scores[it], labels[it]) }
        return (listOf(title) + lines).joinToString("\n")
    }

    private fun show(text: String) = runOnUiThread { result.text = text }

    /** Shows what goes wrong, in place of ending the app. */
    private fun guarded(work: () -> Unit) {
        try {
            work()
        } catch (error: Exception) {
            show("${error.javaClass.simpleName}: ${error.message}")
        }
    }
}
