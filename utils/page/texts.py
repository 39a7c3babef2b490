"""What the page says, in English and Chinese. For messages of the engine see errors_zh.py."""

LANGUAGES = ("en", "zh")
_PREFIX = "dinet_"

_TEXTS = {
    "title": ("# DINet: dub the face in a video", "# DINet：为视频中的人脸配音"),
    "intro": (
        "Give a video or a picture of someone talking and other speech: the mouth follows the new words. "
        "Dub only people who agreed to it; the result is marked as AI-generated.",
        "提供一段人物说话的视频或一张照片，再加上另一段语音：嘴型会跟随新的内容。"
        "请只为已同意的人配音；生成的文件带有“AI 生成”标记。",
    ),
    "example": ("Load the example", "载入示例"),
    "source": ("## 1 · Face", "## 1 · 人脸"),
    "video": ("Video", "视频"),
    "picture": ("Picture", "照片"),
    "source_video": ("Video of someone's face", "人脸视频"),
    "source_picture": ("Picture of someone's face", "人脸照片"),
    "speech": ("## 2 · Speech", "## 2 · 语音"),
    "sound": ("Sound", "声音"),
    "sound_of_video": ("Sound of a video", "视频中的声音"),
    "speech_audio": ("Speech: a file, or recorded here", "语音：上传文件或现场录音"),
    "speech_video": ("Video whose sound is taken", "取其声音的视频"),
    "face_found": ("### Face found", "### 检测到的人脸"),
    "faces_found": ("### {count} faces found: choose one", "### 检测到 {count} 张人脸：请选择一张"),
    "references": (
        "### Reference frames\nThe looks of the mouth are taken from them. Click one to replace it.",
        "### 参考帧\n嘴部外观取自这些帧。点击其中一帧即可更换。",
    ),
    "timeline": ("Choose the frame of the video that takes its place:", "选择视频中的另一帧来替换："),
    "frame_number": ("Frame", "帧号"),
    "use_frame": ("Use this frame as reference", "用此帧作为参考帧"),
    "more": ("More: weights, blend, quality", "更多：权重、融合、质量"),
    "weights": ("weights", "权重"),
    "weights_info": ("DINet weights; the server's owner can add others", "DINet 权重；服务器管理者可以添加"),
    "landmarks": ("source_openface_landmark_path (OpenFace csv)", "source_openface_landmark_path（OpenFace csv）"),
    "dub": ("Dub", "开始配音"),
    "cancel": ("Cancel", "取消"),
    "status": ("Progress", "进度"),
    "result": ("## 3 · Result", "## 3 · 结果"),
    "source_view": ("Source", "原视频"),
    "result_view": ("Dubbed", "配音后"),
    "download": ("Download the dubbed video", "下载配音视频"),
    "download_faces": ("Download the video of the generated faces", "下载生成的人脸视频"),
    "moments": ("### Eight moments of the result", "### 结果中的八个瞬间"),
    # Said by the server, with values
    "waiting": (
        "Waiting: {before} before you ({length} in the queue)",
        "排队中：前面还有 {before} 个（队列共 {length} 个）",
    ),
    "stage_start": ("Starting", "准备中"),
    "stage_pictures": ("Making the thumbnails", "生成缩略图"),
    "stage_preview": ("Making a copy of the source that browsers play", "生成浏览器可播放的原视频副本"),
    "stage_landmarks": ("Looking for the face", "检测人脸"),
    "stage_read": ("Reading the video", "读取视频"),
    "stage_dub": ("Dubbing", "生成配音"),
    "stage_fit, seconds": ("Fitting the weights to this person", "针对此人微调权重"),
    "of_seconds": ("{done} of {total} s", "{done} / {total} 秒"),
    "stage_speech": ("Listening to the speech", "分析语音"),
    "stage_moments": ("Finishing", "收尾"),
    "of": ("frame {done} of {total}", "第 {done} / {total} 帧"),
    "count": ("frame {done}", "第 {done} 帧"),
    "left": ("about {time} left", "约剩 {time}"),
    "seconds": ("{n} s", "{n} 秒"),
    "minutes": ("{n} min", "{n} 分钟"),
    "cancelled": ("Cancelled. Nothing was kept.", "已取消，未保留任何内容。"),
    "ready": (
        "The face was found. Once there is speech, press Dub.",
        "已找到人脸。提供语音后，请点击“开始配音”。",
    ),
    "done": ("Done.", "完成。"),
    "full": ("{length} are waiting already; try again later.", "已有 {length} 个任务在排队，请稍后再试。"),
    "failed": (
        "Something went wrong on the server; its log tells what. Try again, or ask the server's owner.",
        "服务器出错，详情见其日志。请重试或联系管理者。",
    ),
    "no_source": ("Upload or record a video, or give a picture.", "请上传或录制视频，或提供一张照片。"),
    "no_speech": ("Upload or record speech, or give a video with sound.", "请上传或录制语音，或提供带声音的视频。"),
    "gone": (
        "The upload was deleted, as uploads are after a time; upload it again.",
        "上传的文件已按时限删除，请重新上传。",
    ),
    "busy": ("A dub of yours is under way; wait for it or cancel it.", "您的任务正在进行，请等待或取消。"),
    "unplayable": ("No preview: this browser cannot show the file.", "无法预览：此浏览器不能播放该文件。"),
    "too_large": (
        "{name} has {size} MB, at most {most} MB are taken; make it smaller or shorter.",
        "{name} 大小为 {size} MB，最多 {most} MB；请压缩或剪短。",
    ),
    "face_name": ("{share:.0%} of frames", "{share:.0%} 的帧"),
    "frame_name": ("{frame}", "{frame}"),
    "moment_name": ("{time:.1f} s", "{time:.1f} 秒"),
    "figure_frames": ("frames", "帧数"),
    "figure_rate": ("frames per second of the result", "结果帧率"),
    "figure_speed": ("frames dubbed per second", "每秒生成帧数"),
    "figure_untouched": ("frames left untouched (no usable face)", "未改动的帧（无可用人脸）"),
    "figure_seconds": ("seconds it took", "用时（秒）"),
    "figure_references": ("reference frames", "参考帧"),
}

_OPTIONS_ZH = {
    "face": "要配音的人脸编号（face_id），有多张人脸时使用；空：最大的一张",
    "blend": "face：只改变下半脸，皮肤保留原视频的细节，网络生成得不好的嘴唇由其他帧中的真实嘴唇代替；"
    "feather：替换整个嘴部区域，边缘渐变并匹配颜色；hard：整个嘴部区域、硬边缘，按论文发布的方式",
    "silence": "close：语音停顿超过 0.3 秒时嘴唇平滑闭合（blend 为 face 时）；keep：保持网络生成的样子",
    "crop_radius": "裁剪大小在一个镜头内固定（shot），或按论文发布的方式每五帧变化（window）",
    "reference_selection": "spread：从闭嘴到张嘴的清晰帧；random：按论文发布的方式，用 seed 抽取",
    "reference_frames": "最多五个参考帧（从 0 开始的帧号），例如 3,40,81；空：自动选择",
    "seed": "reference_selection 为 random 时的随机种子",
    "fps": "结果的帧率；空：与原视频相同",
    "batch_size": "每次处理的帧数；空：CPU 为 2，CUDA 为 16",
    "crf": "H.264 质量，越小越好",
    "preset": "编码预设：速度与文件大小的权衡",
    "video_codec": "编码器，例如 libx264 或 h264_nvenc",
    "fit": "先用原视频训练若干分钟，使权重适应此人；嘴唇更清晰、动作更自然。空：不训练",
    "source_openface_landmark_path": "原视频的 OpenFace csv；没有则自动检测关键点",
    "save_face_video": "同时保存生成的人脸视频",
}


GRADIO_ZH = {
    "Click to Access Webcam": "点击打开摄像头",
    "start recording": "录制",
    "capture photo": "拍照",
    "Record": "录制",
    "Stop": "停止",
    "pause": "暂停",
    "Upload file": "上传文件",
    "Capture from camera": "用摄像头录制",
    "Record audio": "用麦克风录音",
    "Paste from clipboard": "从剪贴板粘贴",
    "Adjust volume": "音量",
    "play-pause-replay-button": "播放或暂停",
    "full-screen": "全屏",
    "Reset audio": "恢复原声音",
    "Trim audio to selection": "剪辑声音",
    "undo": "撤销",
    "Download": "下载",
    "Error": "错误",
    "Warning": "提示",
    "Connection Lost": "连接中断",
    "Connection to the server was lost. Attempting reconnection...": "与服务器的连接已中断，正在重新连接……",
}
"""Texts of Gradio that it does not translate."""


def translations() -> dict[str, dict[str, str]]:
    """All texts by language and key, for gr.I18n; Traditional Chinese browsers get the simplified texts."""
    english, chinese = ({key: texts[number] for key, texts in _TEXTS.items()} for number in (0, 1))
    chinese |= {help_key(name): text for name, text in _OPTIONS_ZH.items()}
    keyed = [{_PREFIX + key: text for key, text in texts.items()} for texts in (english, chinese)]
    return {"en": keyed[0], "zh": keyed[1], "zh-CN": keyed[1], "zh-TW": keyed[1]}


def text_key(key: str) -> str:
    """The key under which gr.I18n knows a text: Gradio has texts of its own, under shorter keys."""
    return _PREFIX + key


def help_key(name: str) -> str:
    """The key of an option's help text."""
    return f"help_{name}"


def language_of(accept_language: str | None) -> str:
    """The language of a browser, from its Accept-Language header."""
    first = (accept_language or "").split(",")[0].strip().lower()
    return "zh" if first.startswith("zh") else "en"


def say(key: str, language: str, **values: object) -> str:
    """A text with its values."""
    return _TEXTS[key][LANGUAGES.index(language)].format(**values)


def has_text(key: str) -> bool:
    """Whether there is such a text."""
    return key in _TEXTS


def say_seconds(seconds: float, language: str) -> str:
    """A time in words: seconds below two minutes, else minutes."""
    if seconds < 120:
        return say("seconds", language, n=max(1, round(seconds)))
    return say("minutes", language, n=round(seconds / 60))
