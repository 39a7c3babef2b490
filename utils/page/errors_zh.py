"""The engine's errors that visitors meet most, in Chinese. Others are shown in English."""

import re

_NAME = r"(?P<name>.+?)"

_MESSAGES = {
    r"no face was found in {name}; use .*": "在 {name} 中没有找到人脸；请使用正面、人脸高度至少 40 像素的视频。",
    r"no frame of {name} has a usable face: .*": "{name} 中的人脸都太小或大部分在画面之外；请使用人脸更大的视频。",
    r"there is no face (?P<face>\d+); the landmarks have (?P<faces>.+)": "没有编号为 {face} 的人脸；可选：{faces}。",
    r"{name} has no audio track; give .*": "{name} 没有声音；请提供音频文件或带声音的视频。",
    r"{name} is silent: .*": "{name} 是静音的，嘴不会动；请提供含有语音的文件。",
    r"{name} holds no sound \(zero samples\); .*": "{name} 中没有声音数据；请换一个音频文件。",
    r"{name} cannot be read as sound or video .*": "无法读取 {name}：格式不支持、内容为空或文件不完整；"
    "请提供 wav、mp3、m4a、flac、ogg 或 mp4 文件。",
    r"{name} says it holds .*": "{name} 不完整或已损坏；请重新复制或导出。",
    r"{name} is no video, picture or audio file that can be read .*": "无法读取 {name}；请提供播放器能打开的文件。",
    r"{name} is no video or picture that can be read, .*": "{name} 不是可读取的视频或图片，或文件不完整；"
    "请提供播放器能打开的文件。",
    r"{name} has no picture \(sound only\?\); .*": "{name} 中没有画面；请提供视频或图片。",
    r"{name} is (?P<seconds>\d+) s long, at most (?P<most>[\d.]+) s are taken; .*": "{name} 长 {seconds} 秒，"
    "最多 {most} 秒；请剪短。",
    r"frame (?P<frame>-?\d+) is not there; give some of 0 to (?P<last>\d+)": "没有第 {frame} 帧；可选 0 至 {last}。",
    r"frame (?P<frame>\d+) has no usable face; .*": "第 {frame} 帧中没有可用的人脸；请选择另一帧。",
    r"{name} has (?P<seconds>[\d.]+) s with a face and sound, and (?P<least>[\d.]+) s are needed .*": "{name} 中"
    "有人脸和声音的部分只有 {seconds} 秒，微调权重至少需要 {least} 秒；请提供更长的视频。",
    r"{name} has sound, but lips that do not move: .*": "{name} 有声音，但嘴唇不动；请提供此人说话的视频。",
    r".* is no list of frame numbers; .*": "请输入最多五个帧号，例如 3,40,81。",
    r"(?P<count>\d+) frames given; give up to (?P<most>\d+)": "给了 {count} 帧，最多 {most} 帧。",
}
_PATTERNS = {re.compile(pattern.replace("{name}", _NAME)): text for pattern, text in _MESSAGES.items()}


def translate_error(message: str, language: str) -> str:
    """An error without its option's name, in the language of the reader if there is a translation.

    Args:
        message: in English, files without their folders.
        language: "en" or "zh".
    """
    if language != "zh":
        return message
    for pattern, text in _PATTERNS.items():
        match = pattern.fullmatch(message)
        if match:
            return text.format(**match.groupdict())
    return message
